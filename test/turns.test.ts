import { once } from 'node:events';
import { Agent, get } from 'node:http';
import type { IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { describe, expect, inject, onTestFinished, test } from 'vitest';

import { createTurns } from '../src/http/turns.ts';
import { signUp, startTestServer } from './support/server.ts';

const LIMIT = 5;

/** Turns by a clock that only work advances, and the turn of the event loop in which each request began. */
function turnsByHand() {
  let now = 0;
  const turns = createTurns(LIMIT, () => now);
  const begun: { name: number; turn: number }[] = [];
  let turn = 0;
  async function add(name: number, ms: number, network = 'one'): Promise<void> {
    turns.begin(network, () => {
      begun.push({ name, turn });
      // Like the continuation after a SQLite answer: not synchronous, but before anything else.
      void Promise.resolve().then(() => (now += ms));
    });
    // Its work is done before the next request arrives.
    await Promise.resolve().then(() => undefined);
  }
  async function turnsPass(count: number): Promise<void> {
    for (let passed = 0; passed < count; passed += 1) {
      await nextTurn();
      turn += 1;
    }
  }
  return { turns, add, begun, turnsPass, passTime: (ms: number) => (now += ms) };
}

describe('requests within one turn of the event loop', () => {
  test("requests begin in order of arrival until the turn's time is used up", async () => {
    const { add, begun, turnsPass } = turnsByHand();
    for (let name = 0; name < 30; name += 1) await add(name, 2);
    await turnsPass(3);
    // Later requests queue behind the waiting ones.
    for (let name = 30; name < 40; name += 1) await add(name, 2);
    await turnsPass(40);

    expect(begun.map(({ name }) => name)).toEqual(Array.from({ length: 40 }, (_, name) => name));
    // The third request of 2 ms begins after 4 of the 5 ms; the test's own count of turns can be off by one.
    const inOneTurn = (turn: number): number => begun.filter((one) => one.turn === turn).length;
    for (let turn = 0; turn < 43; turn += 1) expect(inOneTurn(turn)).toBeLessThanOrEqual(2 * 3);
  });

  test('a request that arrives while another begins comes after those that wait already', async () => {
    const { turns, add, begun, turnsPass, passTime } = turnsByHand();
    await add(0, LIMIT);
    const rearrive = (name: number) => () => {
      begun.push({ name, turn: 0 });
      passTime(LIMIT);
      if (name < 8) turns.begin('one', rearrive(name + 2));
    };
    turns.begin('one', rearrive(1));
    turns.begin('one', rearrive(2));
    await turnsPass(30);
    expect(begun.map(({ name }) => name)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test('networks take turns, however many requests one of them has', async () => {
    const { add, begun, turnsPass } = turnsByHand();
    await add(0, LIMIT);
    for (const name of [1, 3, 5, 6]) await add(name, LIMIT, 'busy');
    for (const name of [2, 4]) await add(name, LIMIT, 'other');
    await turnsPass(20);
    expect(begun.map(({ name }) => name)).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  test('requests begin at once while there is time', async () => {
    const { add, begun } = turnsByHand();
    await add(0, 0);
    await add(1, 0);
    expect(begun).toHaveLength(2);
  });

  test('requests get as much time as everything else took while they waited', async () => {
    const { add, begun, turnsPass, passTime } = turnsByHand();
    for (let name = 0; name < 300; name += 1) await add(name, 1);
    await turnsPass(1);
    const before = begun.length;
    // Refusing other requests took this long.
    passTime(4 * LIMIT);
    await turnsPass(1);
    expect(begun.length - before).toBeGreaterThanOrEqual(4 * LIMIT - 1);
    // New connections wait for the end of the turn, which is limited whatever the rest took.
    const after = begun.length;
    passTime(10_000);
    await turnsPass(1);
    expect(begun.length - after).toBeLessThanOrEqual(60);
  });

  test('requests wait while connections are accepted, but not for long', async () => {
    const { turns, add, begun, turnsPass, passTime } = turnsByHand();
    passTime(1_000);
    // Nothing was done for a while, so this one need not wait.
    turns.accepted();
    await add(0, 0);
    expect(begun).toHaveLength(1);

    await turnsPass(3);
    turns.accepted();
    await add(1, 0);
    await turnsPass(1);
    expect(begun).toHaveLength(1);
    await turnsPass(3);
    expect(begun).toHaveLength(2);

    await turnsPass(3);
    turns.accepted();
    const before = begun.length;
    for (let name = 2; name < 40; name += 1) await add(name, 2);
    let waited = 0;
    for (; begun.length === before; waited += 10) {
      turns.accepted();
      passTime(10);
      await turnsPass(1);
    }
    expect(waited).toBe(50);
    // Then they get as much time as the connections took.
    expect(begun.length - before).toBeGreaterThanOrEqual(20);
  });

  test('the shortest wait is reported', async () => {
    const { turns, add, turnsPass, passTime } = turnsByHand();
    expect(turns.shortestWait()).toBe(0);
    await add(0, LIMIT);
    await turnsPass(1);
    await add(1, LIMIT);
    await add(2, LIMIT);
    await turnsPass(3);
    // The request that began at once did not wait.
    expect(turns.shortestWait()).toBe(0);

    passTime(LIMIT);
    turns.begin('one', () => passTime(LIMIT));
    turns.shortestWait();
    await add(3, 0);
    passTime(1_200);
    await turnsPass(3);
    expect(turns.shortestWait()).toBe(1_200);
    expect(turns.shortestWait()).toBe(0);
  });
});

// PostgreSQL answers later, so there every request yields its turn automatically.
test.runIf(inject('engine') === 'sqlite')(
  'a client that connects while the server is busy is served before the others are served many times',
  async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    await server.app.listen({ port: 0 });
    const { port } = server.app.server.address() as AddressInfo;
    const [busy, newcomers] = [30, 40];
    const pageOver = async (agent: Agent): Promise<void> => {
      const [answer] = (await once(
        get({ port, path: '/settings', agent, headers: { cookie: ann.cookie } }),
        'response',
      )) as [IncomingMessage];
      expect(answer.statusCode).toBe(200);
      await once(answer.resume(), 'end');
    };
    const connect = (): Agent => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      onTestFinished(() => {
        agent.destroy();
      });
      return agent;
    };
    const connected = Array.from({ length: busy }, connect);
    await Promise.all(connected.map(pageOver));

    let served = 0;
    let allHeard = false;
    const loads = connected.map(async (agent) => {
      while (!allHeard) {
        await pageOver(agent);
        served += 1;
      }
    });
    await Promise.all(Array.from({ length: newcomers }, () => pageOver(connect())));
    const servedMeanwhile = served;
    allHeard = true;
    await Promise.all(loads);
    // With one newcomer in each turn, and a page for everybody in each turn, it would be 1,200 pages.
    expect(servedMeanwhile).toBeLessThan((busy * newcomers) / 3);
  },
);
