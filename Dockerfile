# Everything is made here, and only what runs goes on. The same version of Node.js in both: SQLite is built for it.
FROM node:22-slim AS build
# Where SQLite has to be compiled.
RUN apt-get update && apt-get install -y --no-install-recommends python3 make g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json package-lock.json prisma.config.ts ./
COPY prisma prisma
COPY src src
# From the lock file. Afterwards it makes the database clients and compiles the programs into dist/.
RUN npm ci --omit=dev --no-audit --no-fund

FROM node:22-slim
WORKDIR /app
# It belongs to root, and the server only reads it: the root file system may be read-only.
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
CMD ["node", "--max-semi-space-size=8", "--heap-growing-percent=40", "--enable-source-maps", "dist/server.js"]
