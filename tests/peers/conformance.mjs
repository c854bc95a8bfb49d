// Runs the conformance suite of the protocol against a host, whose agents have to show who they are. The suite shows nothing, so
// between them stands a proxy that adds a key to each request and changes nothing else of it, but for its own address in `Host` and
// `Origin`, as proxies do: what the suite says of other hosts arrives as it said it.
//
//     AMBIT_URL=http://…/mcp AMBIT_KEY=… node conformance.mjs BASELINE OUTPUT
//
// Ends with the suite's exit code.

import { spawn } from "node:child_process";
import http from "node:http";
import { fileURLToPath } from "node:url";

const [baseline, output] = process.argv.slice(2);
const upstream = new URL(process.env.AMBIT_URL);
const suite = fileURLToPath(new URL("node_modules/@modelcontextprotocol/conformance/dist/index.js", import.meta.url));

const proxy = http.createServer((request, response) => {
  const own = `127.0.0.1:${proxy.address().port}`;
  const headers = { ...request.headers, authorization: `Bearer ${process.env.AMBIT_KEY}` };
  if (headers.host === own) headers.host = upstream.host;
  if (headers.origin === `http://${own}`) headers.origin = upstream.origin;
  const { hostname, port } = upstream;
  const passed = http.request({ hostname, port, path: request.url, method: request.method, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  passed.on("error", (error) => response.destroy(error));
  // Whoever asked is gone, and so is what was asked.
  response.on("close", () => passed.destroy());
  request.pipe(passed);
});

proxy.listen(0, "127.0.0.1", () => {
  const url = `http://127.0.0.1:${proxy.address().port}${upstream.pathname}`;
  const options = ["--suite", "all", "--expected-failures", baseline, "--output-dir", output];
  const running = spawn(process.execPath, [suite, "server", "--url", url, ...options], { stdio: "inherit" });
  running.on("exit", (code) => process.exit(code ?? 1));
});
