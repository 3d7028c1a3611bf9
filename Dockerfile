# This stage builds everything; the next one copies only what is needed at run time. Both need the same version of
# Node.js, because SQLite is compiled for it.
FROM node:22-slim AS build
# For compiling SQLite where no prebuilt binary can be downloaded.
RUN apt-get update && apt-get install -y --no-install-recommends python3 make g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json package-lock.json prisma.config.ts ./
COPY prisma prisma
COPY src src
# The postinstall script in package.json generates the database clients and compiles the programs into dist/.
RUN npm ci --omit=dev --no-audit --no-fund

FROM node:22-slim
WORKDIR /app
# /app belongs to root and the server only reads it, so the root file system may be read-only.
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY prisma prisma
COPY public public
COPY views views
RUN mkdir -m 700 /data && chown node:node /data
USER node
ENV NODE_ENV=production HOST=0.0.0.0 DATABASE_URL=file:/data/tandem.db
VOLUME /data
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT || 3000}/readyz`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
# The compiled program itself: nothing is compiled at the start, and npm would not pass a SIGTERM on.
CMD ["node", "--max-semi-space-size=8", "--heap-growing-percent=20", "dist/server.js"]
