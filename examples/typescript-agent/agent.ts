/**
 * A support agent that gives money back, on the official TypeScript client: it reads, drafts, asks, waits for people, and keeps the
 * receipt.
 *
 *     node agent.ts draft CHARGE AMOUNT     what a refund would send, and what would become of it; nothing leaves
 *     node agent.ts refund CHARGE AMOUNT    the refund; where people decide first, it waits for them
 *
 * Amounts are in cents. The README beside this says how it reaches Ambit.
 */

import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import { Client, StreamableHTTPClientTransport, type Transport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

/** There is no refund, and this says why. */
class Stopped extends Error {}

interface Charge {
  amount: number;
  "amount-refunded": number;
  currency: string;
}

interface Refund {
  id: string;
  amount: number;
  currency: string;
  status: string;
}

/** What the host says about a call, beside its value. */
interface About {
  call: string;
  outcome: string;
  receipt?: { uri: string };
  "first-write"?: {
    request: { method: string; url: string; fields: unknown };
    policy: { would: string; needs?: Record<string, number>[] };
  };
}

interface Status {
  status: string;
  value?: Refund;
  receipt?: string;
}

interface Called<T> {
  value: T | undefined;
  about: About;
  /** For a model, where there is no value. */
  words: string;
}

function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Stopped(`${name} is not set`);
  return value;
}

/** A way to Ambit: to one that sends nothing, for a draft. */
function way(draft: boolean): Transport {
  const url = process.env[draft ? "AMBIT_DRAFT_URL" : "AMBIT_URL"];
  if (url !== undefined) {
    const headers = { authorization: `Bearer ${setting("AMBIT_KEY")}` };
    return new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
  }
  if (process.env.AMBIT_URL !== undefined) {
    throw new Stopped("a draft needs AMBIT_DRAFT_URL: an Ambit that is served with --mode dry-run");
  }
  const args = ["--home", setting("AMBIT_HOME"), "serve", "--stdio", "--as", "assistant", "--for", "ada"];
  const dry = draft ? ["--mode", "dry-run"] : [];
  return new StdioClientTransport({ command: process.env.AMBIT ?? "ambit", args: [...args, ...dry] });
}

async function withAmbit(draft: boolean, act: (client: Client) => Promise<void>): Promise<void> {
  const client = new Client(
    { name: "support-agent", version: "1.0.0" },
    { versionNegotiation: { mode: "auto" } },
  );
  await client.connect(way(draft));
  try {
    await act(client);
  } finally {
    await client.close();
  }
}

async function call<T>(client: Client, name: string, args: Record<string, unknown>): Promise<Called<T>> {
  const result = await client.callTool({ name, arguments: args });
  const words = result.content.map((block) => (block.type === "text" ? block.text : "")).join(" ");
  const about = (result._meta?.["ambit/call"] ?? {}) as About;
  return { value: result.structuredContent as T | undefined, about, words };
}

function money(minor: number, currency: string): string {
  return `${(minor / 100).toFixed(2)} ${currency}`;
}

/** Reads the charge, and thinks before it asks for anything. */
async function lookUp(client: Client, charge: string, amount: number): Promise<void> {
  const { value, words } = await call<Charge>(client, "stripe_charges_get", { id: charge });
  if (value === undefined) throw new Stopped(words);
  const left = value.amount - value["amount-refunded"];
  console.log(`charge ${charge}: ${money(value.amount, value.currency)}, of which ${money(left, value.currency)} is left`);
  if (amount > left) throw new Stopped("that is more than is left of it");
}

async function draft(client: Client, charge: string, amount: number): Promise<void> {
  await lookUp(client, charge, amount);
  const { about, words } = await call<Refund>(client, "stripe_refunds_create", { charge, amount });
  const first = about["first-write"];
  if (first === undefined) throw new Stopped(words);
  const { method, url, fields } = first.request;
  console.log(`draft: ${method} ${url} ${JSON.stringify(fields)}`);
  const needs = (first.policy.needs ?? []).flatMap((ways) => Object.entries(ways));
  const people = needs.map(([group, count]) => `${count} of ${group}`).join(", ");
  console.log(`it would ${first.policy.would.replaceAll("-", " ")}${people === "" ? "" : ` for ${people}`}`);
}

async function refund(client: Client, charge: string, amount: number): Promise<void> {
  await lookUp(client, charge, amount);
  const asked = await call<Refund>(client, "stripe_refunds_create", { charge, amount });
  let made = asked.value;
  let receipt = asked.about.receipt?.uri;
  if (asked.about.outcome === "held") {
    console.log(`held: call ${asked.about.call} waits for people`);
    ({ value: made, receipt } = await decided(client, asked.about.call));
  }
  if (made === undefined || receipt === undefined) throw new Stopped(asked.words);
  console.log(`refund ${made.id}: ${money(made.amount, made.currency)}, ${made.status}`);
  const [document] = (await client.readResource({ uri: receipt })).contents;
  if (document === undefined || !("text" in document)) throw new Stopped("there is no receipt");
  const { entry } = JSON.parse(document.text) as { entry: string };
  console.log(`receipt: entry ${(JSON.parse(entry) as { index: number }).index} of the ledger`);
}

/** Waits until people have decided. An agent that has more to do does that, and asks again later. */
async function decided(client: Client, held: string): Promise<Status> {
  for (;;) {
    const { value, words } = await call<Status>(client, "ambit_call_result", { call: held });
    if (value?.status === "ok") return value;
    if (value?.status !== "held" && value?.status !== "running") throw new Stopped(words);
    await pause(500);
  }
}

const steps = { draft, refund };
const [step, charge, amount] = process.argv.slice(2);
if ((step !== "draft" && step !== "refund") || charge === undefined || amount === undefined || !/^\d+$/.test(amount)) {
  console.error("node agent.ts draft|refund CHARGE AMOUNT");
  process.exit(2);
}
try {
  await withAmbit(step === "draft", (client) => steps[step](client, charge, Number(amount)));
} catch (error) {
  if (!(error instanceof Stopped)) throw error;
  console.log(`no refund: ${error.message}`);
  process.exitCode = 1;
}
