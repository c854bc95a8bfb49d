// The official TypeScript client as an OAuth client of an issuer: it knows its own name and secret, the issuer that it may give them to,
// and the address of a host.
//
//     node official.mjs legacy|auto URL ISSUER CLIENT SECRET
//
// Prints what it read, what it refunded, and the scopes of the tokens that it got on the way.

import { Client, ClientCredentialsProvider, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const [mode, url, expectedIssuer, clientId, clientSecret] = process.argv.slice(2);
const scopes = [];

class Provider extends ClientCredentialsProvider {
  saveTokens(tokens) {
    const claims = JSON.parse(Buffer.from(tokens.access_token.split(".")[1], "base64url"));
    scopes.push(claims.scope);
    super.saveTokens(tokens);
  }
}

const authProvider = new Provider({ clientId, clientSecret, expectedIssuer, scope: "charges" });
const transport = new StreamableHTTPClientTransport(new URL(url), { authProvider });
const client = new Client({ name: "peer", version: "1.0.0" }, { versionNegotiation: { mode } });
await client.connect(transport);
const read = await client.callTool({ name: "stripe_charges_get", arguments: { id: "ch_shoes" } });
const made = await client.callTool({ name: "stripe_refunds_create", arguments: { charge: "ch_shoes", amount: 500 } });
await client.close();
const words = made.content.map((block) => block.text).join(" ");
console.log(JSON.stringify({ amount: read.structuredContent?.amount, refunded: made.structuredContent?.amount, words, scopes }));
