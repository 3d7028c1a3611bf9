#!/usr/bin/env node
// `npx tandem COMMAND` runs the command line.
process.argv.splice(2, 0, 'cli');
await import('../src/run.js');
