import { readdirSync } from 'node:fs';
import { join } from 'node:path';

import { defineConfig } from 'oxlint';

/**
 * Layers from the bottom up. Each entry may import only from itself and the entries before it. The sandbox stands alone.
 */
const LAYERS = [
  [
    'src/bare-host.ts',
    'src/root.ts',
    'src/version.ts',
    'src/plain-error.ts',
    'src/readable-stack.ts',
    'src/instants.ts',
    'src/native-module.ts',
    'src/owner-only.ts',
    'src/remember.ts',
    'src/terminal.ts',
    'src/wording.ts',
    'src/config.ts',
    'src/programme.ts',
    'src/metrics.ts',
  ],
  ['src/db'],
  ['src/audit.ts'],
  ['src/outbox/kinds.ts', 'src/outbox/queue.ts', 'src/outbox/links.ts'],
  ['src/credits'],
  ['src/referrals'],
  ['src/access'],
  ['src/stripe'],
  ['src/accounts'],
  ['src/backups'],
  [
    'src/outbox/alarm.ts',
    'src/outbox/compose.ts',
    'src/outbox/days-mail.ts',
    'src/outbox/error-name.ts',
    'src/outbox/facts.ts',
    'src/outbox/hourly.ts',
    'src/outbox/items.ts',
    'src/outbox/mailer.ts',
    'src/outbox/perform.ts',
    'src/outbox/reminders.ts',
    'src/outbox/retries.ts',
    'src/outbox/sender.ts',
    'src/outbox/smtp.ts',
    'src/outbox/still-true.ts',
    'src/outbox/words.ts',
  ],
  [
    'src/env-file.ts',
    'src/give-up.ts',
    'src/log.ts',
    'src/lost-output.ts',
    'src/sandbox-file.ts',
    'src/session-secret.ts',
  ],
  ['src/http'],
  ['src/operator'],
  ['src/start.ts'],
];

/** These may import from every layer. */
const ENTRY_POINTS = ['src/cli.ts', 'src/demo.ts', 'src/server.ts'];

/** Only this folder, `start.ts` and the entry points may import HTTP code. */
const TRANSPORT = 'src/http';

/** The rules of typescript-eslint's strictest preset. */
const STRICT = [
  'no-var',
  'prefer-const',
  'prefer-rest-params',
  'prefer-spread',
  'typescript/await-thenable',
  'typescript/no-array-constructor',
  'typescript/no-array-delete',
  'typescript/no-base-to-string',
  'typescript/no-confusing-void-expression',
  'typescript/no-deprecated',
  'typescript/no-duplicate-enum-values',
  'typescript/no-duplicate-type-constituents',
  'typescript/no-dynamic-delete',
  'typescript/no-empty-object-type',
  'typescript/no-explicit-any',
  'typescript/no-extra-non-null-assertion',
  'typescript/no-extraneous-class',
  'typescript/no-floating-promises',
  'typescript/no-for-in-array',
  'typescript/no-generated-empty-object-type',
  'typescript/no-implied-eval',
  'typescript/no-invalid-void-type',
  'typescript/no-meaningless-void-operator',
  'typescript/no-misused-new',
  'typescript/no-misused-promises',
  'typescript/no-misused-spread',
  'typescript/no-mixed-enums',
  'typescript/no-namespace',
  'typescript/no-non-null-asserted-nullish-coalescing',
  'typescript/no-non-null-asserted-optional-chain',
  'typescript/no-non-null-assertion',
  'typescript/no-redundant-type-constituents',
  'typescript/no-require-imports',
  'typescript/no-this-alias',
  'typescript/no-unnecessary-boolean-literal-compare',
  'typescript/no-unnecessary-condition',
  'typescript/no-unnecessary-template-expression',
  'typescript/no-unnecessary-type-arguments',
  'typescript/no-unnecessary-type-assertion',
  'typescript/no-unnecessary-type-constraint',
  'typescript/no-unnecessary-type-conversion',
  'typescript/no-unnecessary-type-parameters',
  'typescript/no-unsafe-argument',
  'typescript/no-unsafe-assignment',
  'typescript/no-unsafe-call',
  'typescript/no-unsafe-declaration-merging',
  'typescript/no-unsafe-enum-assignment',
  'typescript/no-unsafe-enum-comparison',
  'typescript/no-unsafe-function-type',
  'typescript/no-unsafe-member-access',
  'typescript/no-unsafe-return',
  'typescript/no-unsafe-unary-minus',
  'typescript/no-unused-expressions',
  'typescript/no-unused-vars',
  'typescript/no-useless-constructor',
  'typescript/no-useless-default-assignment',
  'typescript/no-wrapper-object-types',
  'typescript/only-throw-error',
  'typescript/prefer-as-const',
  'typescript/prefer-literal-enum-member',
  'typescript/prefer-namespace-keyword',
  'typescript/prefer-promise-reject-errors',
  'typescript/prefer-reduce-type-parameter',
  'typescript/prefer-return-this-type',
  'typescript/related-getter-setter-pairs',
  'typescript/require-await',
  'typescript/triple-slash-reference',
  'typescript/unbound-method',
  'typescript/unified-signatures',
  'typescript/use-unknown-in-catch-callback-variable',
];

const isFile = (path) => path.endsWith('.ts');

/** Every TypeScript file that the layers apply to. */
const layered = readdirSync(join(import.meta.dirname, 'src'), { recursive: true })
  .map((path) => `src/${path.replaceAll('\\', '/')}`)
  .filter((path) => isFile(path) && !/^src\/(sandbox|db\/generated[^/]*)\//.test(path));
const known = [...LAYERS.flat(), ...ENTRY_POINTS];
for (const path of layered) {
  if (known.some((one) => path === one || path.startsWith(`${one}/`))) continue;
  throw new Error(`${path} is in no layer. Add it to LAYERS in oxlint.config.js.`);
}

/** The pattern that matches relative imports of a file or folder of src/. */
const imported = (path) => path.replace('src', '**') + (isFile(path) ? '' : '/**');

/** Forbids imports from higher layers. */
function importsOneWay(files, layer, { transport = false }) {
  const patterns = [
    {
      group: [
        ...LAYERS.slice(layer + 1)
          .flat()
          .map(imported),
        '**/sandbox/**',
      ],
      message: 'Imports run one way, and only start.ts knows the sandbox: see LAYERS in oxlint.config.js.',
    },
  ];
  if (!transport) {
    patterns.push({
      group: ['fastify', '@fastify/*', '**/http/*'],
      message: 'Only src/http/ knows of HTTP.',
    });
  }
  return { files, rules: { 'no-restricted-imports': ['error', { patterns }] } };
}

const oneWay = [
  importsOneWay(ENTRY_POINTS, LAYERS.length, { transport: true }),
  ...LAYERS.flatMap((layer, index) =>
    layer.map((path) =>
      importsOneWay([isFile(path) ? path : `${path}/**`], index, {
        transport: path === TRANSPORT || path === 'src/start.ts',
      }),
    ),
  ),
  { files: ['src/start.ts'], rules: { 'no-restricted-imports': 'off' } },
  ...['..', '../..'].map((src, depth) => ({
    files: [`src/sandbox/${'*/'.repeat(depth)}*.ts`],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            {
              group: [`${src}/*`, `!${src}/root.ts`],
              message: 'The sandbox shares no code with the server.',
            },
          ],
        },
      ],
    },
  })),
];

export default defineConfig({
  plugins: [],
  categories: { correctness: 'error' },
  options: { typeAware: true },
  ignorePatterns: ['src/db/generated*', 'dist', 'data'],
  overrides: [
    {
      files: ['**/*.ts'],
      plugins: ['typescript'],
      rules: {
        ...Object.fromEntries(STRICT.map((rule) => [rule, 'error'])),
        'typescript/ban-ts-comment': ['error', { minimumDescriptionLength: 10 }],
        'typescript/restrict-plus-operands': [
          'error',
          {
            allowAny: false,
            allowBoolean: false,
            allowNullish: false,
            allowNumberAndString: false,
            allowRegExp: false,
          },
        ],
        'typescript/restrict-template-expressions': [
          'error',
          { allowAny: false, allowBoolean: true, allowNullish: true, allowNumber: true },
        ],
        'typescript/return-await': ['error', 'error-handling-correctness-only'],
      },
    },
    ...oneWay,
  ],
});
