// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

'use strict';

/**
 * Plays mini-programs that use the wafer SDKs, step by step.
 *
 *     node run.js <gateway URL> <simulator URL> <login path>
 *
 * Each line of the input is {"steps":[…]}: steps that are taken at the same
 * time. Each step has the members
 *
 *     id        of the step, repeated in its outcome
 *     phone     name of the phone, which is made when it is first mentioned by
 *     sdk, program, user
 *     do        login | loginWithCode | request | session | set
 *     request   with request: {path, method, data, header, login}
 *     set       with set: {keyExpired, resends} of the phone
 *
 * and ends when its phone waits for nothing any more, so that what a client
 * does after it called back is seen, and so is that it never calls back. Each
 * line of the output is the outcome of one step:
 *
 *     id, called  the callbacks that were called, in order
 *     value       what success was given, or the stored session
 *     error       what fail was given: {kind, type, message}
 *     sent        the requests that the phone sent meanwhile: [{method, url, status}]
 *     logins      how many login codes it asked for meanwhile
 *     thrown      errors that nobody caught
 *
 * The first line of the output is {"sdks":{name: version}}.
 */

const fs = require('node:fs');
const path = require('node:path');
const readline = require('node:readline');
const vm = require('node:vm');
const { createRequire } = require('node:module');
const { Phone } = require('./wx.js');

const SDKS = ['wafer-client-sdk', 'wafer2-client-sdk'];
const [gateway, simulator, loginPath] = process.argv.slice(2);

/**
 * Loads an SDK for one phone, as the runtime does: each mini-program has its
 * own instance of every file, in which `wx` is that of its phone. The files are
 * run as they were published.
 */
function load(name, wx) {
  const modules = new Map();
  const loadFile = (file) => {
    if (!modules.has(file)) {
      const module = { exports: {} };
      modules.set(file, module);
      const run = vm.compileFunction(fs.readFileSync(file, 'utf8'), ['exports', 'require', 'module', 'wx'], { filename: file });
      const resolve = createRequire(file).resolve;
      run(module.exports, (id) => loadFile(resolve(id)), module, wx);
    }
    return modules.get(file).exports;
  };
  return loadFile(require.resolve(name));
}

/** The phones by name: {phone, sdk}. */
const phones = new Map();

/** Returns the phone of a step. */
function phoneOf({ phone: name, sdk: sdkName, program, user }) {
  if (!phones.has(name)) {
    const phone = new Phone({ simulator, program, user });
    const sdk = load(sdkName, phone.wx);
    sdk.setLoginUrl(gateway + loginPath);
    phones.set(name, { phone, sdk });
  }
  return phones.get(name);
}

/** What a step does, by name. */
const actions = {
  login: ({ sdk }, step, callbacks) => sdk.login(callbacks),
  loginWithCode: ({ sdk }, step, callbacks) => sdk.loginWithCode(callbacks),
  request: ({ sdk }, { request: { path: where, ...options } }, callbacks) => {
    sdk.request({ ...options, ...callbacks, url: gateway + where });
  },
  session: ({ phone }, step, { success }) => {
    success([...phone.storage.values()].map((text) => JSON.parse(text))[0] ?? null);
  },
  set: ({ phone }, { set }, { success }) => {
    Object.assign(phone, set);
    success(null);
  },
};

/** Takes a step and returns its outcome. */
async function take(step) {
  const { phone, sdk } = phoneOf(step);
  const outcome = { id: step.id, called: [] };
  const [sent, logins, thrown] = [phone.sent.length, phone.logins, phone.thrown.length];
  const callbacks = {
    success: (value) => { outcome.called.push('success'); outcome.value = value; },
    fail: (error) => { outcome.called.push('fail'); outcome.error = described(error); },
  };
  if (step.do === 'request') {
    callbacks.complete = () => { outcome.called.push('complete'); };
  }
  try {
    actions[step.do]({ phone, sdk }, step, callbacks);
  } catch (error) {
    phone.thrown.push(String(error));
  }
  await phone.idle();
  outcome.sent = phone.sent.slice(sent);
  outcome.logins = phone.logins - logins;
  outcome.thrown = phone.thrown.slice(thrown);
  return outcome;
}

/** Describes what a client got as an error: an Error, or the object of the runtime. */
function described(error) {
  return { kind: error?.constructor?.name, type: error?.type, message: error?.message ?? error?.errMsg };
}

/** Writes one line of output. */
function print(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

async function main() {
  print({ sdks: Object.fromEntries(SDKS.map((name) => [name, require(path.join(name, 'package.json')).version])) });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    await Promise.all(JSON.parse(line).steps.map(async (step) => print(await take(step))));
  }
  phones.forEach(({ phone }) => phone.close());
}

main();
