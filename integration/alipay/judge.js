// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

'use strict';

/**
 * A platform that leaves signing and verifying to Alipay's own SDK for Node:
 * it accepts a request only if the SDK verifies its signature and would have
 * signed it the same way, and answers with what the SDK signs.
 *
 * It writes JSON lines to standard output: first {port, alipayPublicKey}, then
 * one for each request, {ok, why}.
 *
 * Usage: node judge.js <app id> <private key of the app, PKCS #8 in base64>
 */

const crypto = require('node:crypto');
const http = require('node:http');
const { AlipaySdk } = require('alipay-sdk');
const util = require(require('node:path').join(__dirname, 'node_modules/alipay-sdk/dist/commonjs/util.js'));

const [appId, appPrivateKey] = process.argv.slice(2);
const METHOD = 'alipay.system.oauth.token';
const NODE = 'alipay_system_oauth_token_response';

const pem = (label, base64) => `-----BEGIN ${label}-----\n${base64}\n-----END ${label}-----`;
const appKey = crypto.createPrivateKey(pem('PRIVATE KEY', appPrivateKey));
const appPublicKey = crypto.createPublicKey(appKey).export({ type: 'spki', format: 'der' }).toString('base64');
const platform = crypto.generateKeyPairSync('rsa', {
  modulusLength: 2048,
  publicKeyEncoding: { type: 'spki', format: 'der' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
});
const alipayPublicKey = platform.publicKey.toString('base64');

// The SDK in the place of the platform, which verifies what the app signs …
const gate = new AlipaySdk({ appId, privateKey: platform.privateKey, alipayPublicKey: appPublicKey, keyType: 'PKCS8' });
// … and in the place of the app, as a control of what we answer.
const app = new AlipaySdk({ appId, privateKey: appPrivateKey, alipayPublicKey, keyType: 'PKCS8' });

/** Returns why the SDK would refuse a request, or nothing. */
function refusal(params) {
  const { sign, ...rest } = params;
  const content = Object.keys(rest).sort().map((key) => `${key}=${rest[key]}`).join('&');
  if (!gate.rsaCheck(content, sign, 'RSA2')) {
    return 'the SDK does not verify the signature';
  }
  const { charset, version, sign_type: signType } = rest;
  const again = util.sign(METHOD, rest, { appId, charset, version, signType, privateKey: pem('PRIVATE KEY', appPrivateKey) });
  return again.sign === sign ? '' : 'the SDK signs otherwise';
}

const server = http.createServer((request, response) => {
  let body = '';
  request.on('data', (chunk) => { body += chunk; });
  request.on('end', () => {
    const params = {};
    for (const part of [new URL(request.url, 'http://x').searchParams, new URLSearchParams(body)]) {
      for (const [key, value] of part) {
        params[key] = value;
      }
    }
    const why = refusal(params);
    const node = JSON.stringify({
      access_token: 'authbseB0123456789', auth_start: '2026-01-02 03:04:06', expires_in: 1296000, re_expires_in: 2592000,
      refresh_token: 'authbseBfedcba', open_id: `open-${params.code}`, note: '张"}三\\ "sign":"x"',
    });
    const sign = util.signatureV3(node, platform.privateKey);
    const answer = `{"${NODE}":${node},"sign":"${sign}"}`;
    let control = '';
    try {
      app.checkResponseSign(answer, NODE, sign, '');
    } catch (error) {
      control = `the SDK does not verify its own signature: ${error.message}`;
    }
    console.log(JSON.stringify({ ok: why === '' && control === '', why: why || control }));
    response.setHeader('Content-Type', 'text/html;charset=utf-8');
    response.end(why === '' ? answer : '{"error_response":{"code":"40002","sub_code":"isv.invalid-signature"}}');
  });
});

server.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ port: server.address().port, alipayPublicKey }));
});
