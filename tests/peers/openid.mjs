// An OpenID provider on this machine, whose keys its test changes, and what a forger makes of them.
//
// Prints `{"issuer": …}` once it listens. Then reads a line of JSON and prints one, until its input ends:
//
//     {"do": "issue", "client": "c", "scope": "a b", "resource": "https://…", "seconds": 600}   a token of the provider's, over HTTP
//     {"do": "rotate"}                                                                         other keys, the old ones gone
//     {"do": "forge", "how": "none", …}                                                        see `forgeries`
//
// Every client's secret is `secret-of-` and its name.

import http from "node:http";
import { createInterface } from "node:readline";
import { KeyObject, createHmac, generateKeyPairSync, randomUUID, sign } from "node:crypto";
import { exportSPKI, importJWK } from "jose";
import Provider from "oidc-provider";

const SCOPES = ["charges", "refunds", "other"];
const clients = ["client-7f3", "client-unknown"];

/** How long tokens are good for, in seconds: what the last request to `issue` said. */
let seconds = 600;
let keys = [];
let provider;

function newKeys() {
  const pair = (kid, alg, type, options) => {
    const { privateKey } = generateKeyPairSync(type, options);
    return { ...privateKey.export({ format: "jwk" }), kid, alg, use: "sig" };
  };
  const mark = randomUUID();
  return [pair(`es-${mark}`, "ES256", "ec", { namedCurve: "P-256" }), pair(`rs-${mark}`, "RS256", "rsa", { modulusLength: 2048 })];
}

function renew(issuer) {
  keys = newKeys();
  provider = new Provider(issuer, {
    jwks: { keys },
    cookies: { keys: [randomUUID()] },
    scopes: SCOPES,
    clients: clients.map((name) => ({
      client_id: name,
      client_secret: `secret-of-${name}`,
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
      token_endpoint_auth_method: "client_secret_basic",
      id_token_signed_response_alg: "ES256",
    })),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => ({
          scope: SCOPES.join(" "),
          audience: resource,
          accessTokenFormat: "jwt",
          accessTokenTTL: seconds,
          jwt: { sign: { alg: "ES256" } },
        }),
      },
    },
    ttl: { ClientCredentials: () => seconds },
  });
}

const server = http.createServer((request, response) => provider.callback()(request, response));
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  renew(issuer);
  say({ issuer });
  serve(issuer);
});

function say(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

async function serve(issuer) {
  for await (const line of createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line);
    try {
      if (asked.do === "rotate") {
        renew(issuer);
        say({ kids: keys.map((key) => key.kid) });
      } else if (asked.do === "issue") {
        say({ token: await issued(issuer, asked) });
      } else {
        say({ token: await forgeries[asked.how](claims(issuer, asked), asked) });
      }
    } catch (error) {
      say({ error: String(error) });
    }
  }
  process.exit(0);
}

async function issued(issuer, { client, scope, resource, seconds: wanted }) {
  seconds = wanted ?? 600;
  const answer = await fetch(`${issuer}/token`, {
    method: "POST",
    headers: {
      authorization: `Basic ${Buffer.from(`${client}:secret-of-${client}`).toString("base64")}`,
      "content-type": "application/x-www-form-urlencoded",
    },
    body: new URLSearchParams({ grant_type: "client_credentials", scope, resource }),
  });
  const document = await answer.json();
  if (!answer.ok) throw new Error(JSON.stringify(document));
  return document.access_token;
}

/** What a good token says. */
function claims(issuer, { client, scope, resource, more }) {
  const now = Math.floor(Date.now() / 1000);
  return { iss: issuer, aud: resource, sub: client, client_id: client, scope, iat: now, exp: now + 600, jti: randomUUID(), ...more };
}

const text = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
const parts = (header, said) => `${text({ typ: "at+jwt", ...header })}.${text(said)}`;

/** Signed as the provider signs, with its own key: what is wrong is what it says. */
async function byProvider(said, kid = keys[0].kid) {
  const key = await importJWK(keys[0], "ES256");
  const signed = parts({ alg: "ES256", kid }, said);
  const signature = sign("sha256", Buffer.from(signed), { key: KeyObject.from(key), dsaEncoding: "ieee-p1363" });
  return `${signed}.${signature.toString("base64url")}`;
}

/** Signed with a shared secret, which is what the provider tells everybody. */
async function confused(said, spelled) {
  const { d, p, q, dp, dq, qi, ...open } = keys[1];
  const signed = parts({ alg: "HS256", kid: open.kid }, said);
  const secret = spelled === "pem" ? await exportSPKI(await importJWK(open, "RS256")) : JSON.stringify(open);
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

const forgeries = {
  good: (said) => byProvider(said),
  none: (said) => `${parts({ alg: "none" }, said)}.`,
  "none-by-name": (said) => `${parts({ alg: "none", kid: keys[0].kid }, said)}.${text("signature")}`,
  "confused-pem": (said) => confused(said, "pem"),
  "confused-jwk": (said) => confused(said, "jwk"),
  "unknown-key": (said) => byProvider(said, "of-nobody"),
  // The right key's name, and another's signature.
  "another-key": async (said) => {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const signed = parts({ alg: "ES256", kid: keys[0].kid }, said);
    return `${signed}.${sign("sha256", Buffer.from(signed), { key: privateKey, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
  },
  huge: (said, { bytes }) => byProvider({ ...said, padding: "x".repeat(bytes) }),
  deep: (said, { levels }) => {
    const nested = JSON.stringify(said).replace(/}$/, `,"deep":${"[".repeat(levels)}${"]".repeat(levels)}}`);
    return byProvider(nested);
  },
};
