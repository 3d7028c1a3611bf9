import importX from 'eslint-plugin-import-x';
import tseslint from 'typescript-eslint';

/** Who may import whom: each folder only what stands before it. The sandbox stands alone. */
const LAYERS = [
  [
    'src/root.ts',
    'src/plain-error.ts',
    'src/instants.ts',
    'src/native-module.ts',
    'src/owner-only.ts',
    'src/config.ts',
    'src/metrics.ts',
  ],
  ['src/db'],
  ['src/audit.ts'],
  ['src/credits'],
  ['src/referrals'],
  ['src/accounts'],
  ['src/billing'],
  ['src/access'],
  ['src/backups'],
  ['src/web', 'src/pages', 'src/operations'],
  [
    'src/commands',
    'src/env-file.ts',
    'src/session-secret.ts',
    'src/stripe-client.ts',
    'src/app.ts',
    'src/start.ts',
  ],
];

/** Transport, though it lies in a domain's folder: it may import what the pages may. */
const TRANSPORT = [
  'src/accounts/routes.ts',
  'src/backups/routes.ts',
  'src/billing/routes.ts',
  'src/billing/webhook.ts',
];

const zones = [
  ...LAYERS.flatMap((layer, index) =>
    LAYERS.slice(index + 1).map((higher) => ({
      target: layer.map((path) => (path.endsWith('.ts') ? path : `${path}/**/!(routes|webhook).ts`)),
      from: higher,
      message: 'Imports run one way: see LAYERS in eslint.config.js.',
    })),
  ),
  {
    target: 'src/sandbox',
    from: 'src',
    except: ['./sandbox', './root.ts'],
    message: 'The sandbox shares no code with the server.',
  },
  { target: 'src/!(start).ts', from: 'src/sandbox', message: 'Only start.ts knows the sandbox.' },
];

export default tseslint.config(
  { ignores: ['node_modules', 'src/db/generated*', 'dist', 'data'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
    },
  },
  {
    files: ['src/**/*.ts'],
    plugins: { 'import-x': importX },
    rules: { 'import-x/no-restricted-paths': ['error', { zones }] },
  },
  {
    files: ['src/{db,credits,referrals,accounts,billing,access,backups,commands}/**/*.ts', 'src/audit.ts'],
    ignores: TRANSPORT,
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            { group: ['fastify', '@fastify/*', '**/web/*'], message: 'The domain does not know transport.' },
          ],
        },
      ],
    },
  },
  {
    files: ['**/*.js'],
    ...tseslint.configs.disableTypeChecked,
  },
);
