// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

'use strict';

/**
 * A phone on which one user runs one mini-program: as much of the object `wx`
 * as the wafer SDKs use, over real HTTP. The platform behind it is the
 * simulator, whose control surface stands for the user's hands.
 *
 * It behaves as the runtime does where clients and servers have tripped over
 * it: any HTTP status is a success, at most ten requests are under way, the
 * Referer is the runtime's own, cookies are not kept, and an error thrown in a
 * callback ends that callback and nothing else.
 */

const crypto = require('node:crypto');
const http = require('node:http');

/** How many requests the runtime has under way at once; the others wait. */
const CONCURRENCY = 10;

/** What the runtime hands out for every user since November 2022. */
const USER_INFO = { nickName: '微信用户', gender: 0, language: '', city: '', province: '', country: '', avatarUrl: '' };

class Phone {
  /**
   * @param {object} options
   * @param {string} options.simulator base URL of the simulator
   * @param {string} options.program   app id of the mini-program
   * @param {string} options.user      name of the user at the simulator
   */
  constructor({ simulator, program, user }) {
    this.simulator = simulator;
    this.program = program;
    this.user = user;
    /** Whether the platform says that the user's session key is no longer valid. */
    this.keyExpired = false;
    /** Whether the network stack sends each request again and again, as it does when answers are lost or late. */
    this.resends = false;
    /** Every request of the mini-program so far: {method, url, status}. */
    this.sent = [];
    /** How often the mini-program asked for a login code. */
    this.logins = 0;
    /** What was thrown in callbacks, where no one catches it. */
    this.thrown = [];
    this.storage = new Map();
    this.agent = new http.Agent({ keepAlive: true, maxSockets: CONCURRENCY });
    this.pending = 0;
    this.waiting = [];
    this.wx = this.makeWx();
  }

  /** Returns the object `wx`. */
  makeWx() {
    return {
      login: (options) => this.run('login', options, () => this.login()),
      getUserInfo: (options) => this.run('getUserInfo', options, () => this.getUserInfo()),
      checkSession: (options) => this.run('checkSession', options, async () => {
        if (this.keyExpired) {
          throw new Error('session time out');
        }
        return {};
      }),
      request: (options) => this.run('request', options, () => this.request(options)),
      getStorageSync: (key) => (this.storage.has(key) ? JSON.parse(this.storage.get(key)) : ''),
      setStorageSync: (key, value) => { this.storage.set(key, JSON.stringify(value)); },
      removeStorageSync: (key) => { this.storage.delete(key); },
      // The SDKs listen from the start; their tunnels are not used here.
      onSocketOpen: () => {},
      onSocketMessage: () => {},
      onSocketClose: () => {},
      onSocketError: () => {},
    };
  }

  /** Resolves when the mini-program waits for nothing any more. */
  idle() {
    return this.pending === 0 ? Promise.resolve() : new Promise((resolve) => this.waiting.push(resolve));
  }

  /** Runs an asynchronous interface and calls back. */
  async run(name, options, work) {
    this.pending += 1;
    let outcome = 'success';
    let result;
    try {
      result = { ...(await work()), errMsg: `${name}:ok` };
    } catch (error) {
      outcome = 'fail';
      result = { errMsg: `${name}:fail ${error.message}` };
    }
    this.callBack(options[outcome], result);
    this.callBack(options.complete, result);
    this.pending -= 1;
    if (this.pending === 0) {
      this.waiting.splice(0).forEach((resolve) => resolve());
    }
  }

  callBack(callback, result) {
    try {
      callback?.(result);
    } catch (error) {
      this.thrown.push(String(error));
    }
  }

  async login() {
    this.logins += 1;
    const { code } = await this.control('login', { program: this.program, user: this.user });
    this.keyExpired = false;
    return { code };
  }

  /**
   * Before the user's first sign-in the simulator has no session key, which the
   * platform would have made by now. What the phone hands out then cannot be
   * opened by anyone.
   */
  async getUserInfo() {
    const data = { program: this.program, user: this.user, data: USER_INFO, user_info: true };
    const sealed = await this.control('encrypt', data).catch(() => ({
      raw_data: JSON.stringify(USER_INFO),
      signature: crypto.randomBytes(20).toString('hex'),
      encrypted_data: crypto.randomBytes(256).toString('base64'),
      iv: crypto.randomBytes(16).toString('base64'),
    }));
    return {
      userInfo: { ...USER_INFO },
      rawData: sealed.raw_data,
      signature: sealed.signature,
      encryptedData: sealed.encrypted_data,
      iv: sealed.iv,
    };
  }

  /** Calls the control surface of the simulator. */
  async control(name, input) {
    const { statusCode, data } = await this.exchange('POST', `${this.simulator}/simulator/${name}`, {}, JSON.stringify(input));
    if (statusCode !== 200) {
      throw new Error(`${name}: ${statusCode} ${data}`);
    }
    return JSON.parse(data);
  }

  async request({ url, data, method = 'GET', header = {}, dataType = 'json' }) {
    const fields = this.requestHeader(header);
    const [target, body] = place(method, url, data, fields['content-type']);
    const entry = { method, url: target, status: 0 };
    this.sent.push(entry);
    const send = () => this.exchange(method, target, fields, body);
    let answer = await send();
    if (this.resends) { // that answer was lost, and the next comes late
      [, answer] = await Promise.all([send(), send()]);
    }
    entry.status = answer.statusCode;
    return { ...answer, data: dataType === 'json' ? parsed(answer.data) : answer.data, cookies: [] };
  }

  /** Returns the header that is sent for the one that the mini-program asked for. */
  requestHeader(header) {
    const fields = { 'content-type': 'application/json' };
    for (const [name, value] of Object.entries(header)) {
      const lower = name.toLowerCase();
      if (lower !== 'referer') {
        fields[lower === 'content-type' ? lower : name] = String(value);
      }
    }
    fields.Referer = `https://servicewechat.com/${this.program}/7/page-frame.html`;
    fields['User-Agent'] = 'Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) MicroMessenger/8.0.42 MiniProgramEnv/iOS';
    return fields;
  }

  /** Sends a request and resolves to the answer, whatever its status. */
  exchange(method, url, headers, body) {
    return new Promise((resolve, reject) => {
      const request = http.request(url, { method, headers, agent: this.agent, timeout: 60_000 }, (response) => {
        const chunks = [];
        response.on('data', (chunk) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => resolve({
          statusCode: response.statusCode,
          header: response.headers,
          data: Buffer.concat(chunks).toString('utf8'),
        }));
      });
      request.on('timeout', () => request.destroy(new Error('timeout')));
      request.on('error', reject);
      request.end(body);
    });
  }

  /** Switches the phone off. */
  close() {
    this.agent.destroy();
  }
}

/** Returns the URL and the body in which the runtime sends data. */
function place(method, url, data, contentType) {
  const form = () => Object.entries(data).map((pair) => pair.map(encodeURIComponent).join('=')).join('&');
  if (data === undefined || data === null) {
    return [url, undefined];
  }
  if (typeof data === 'string') {
    return [url, data];
  }
  if (method === 'GET') {
    return [url + (url.includes('?') ? '&' : '?') + form(), undefined];
  }
  return [url, contentType.startsWith('application/x-www-form-urlencoded') ? form() : JSON.stringify(data)];
}

/** Returns text as JSON if it is that, without the byte order mark that one may begin with. */
function parsed(text) {
  const plain = text.replace(/^\uFEFF/, '');
  try {
    return JSON.parse(plain);
  } catch {
    return plain;
  }
}

module.exports = { Phone };
