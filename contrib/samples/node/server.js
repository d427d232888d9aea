// A web app with one dependency, installed from its lockfile.
const http = require("node:http");
const ms = require("ms");

const begin = Date.now();
const server = http.createServer((request, response) => {
  const greeting = process.env.GREETING || "Hello from Node.js";
  response.end(`<h1>${greeting}</h1> up for ${ms(Date.now() - begin)}\n`);
});
server.listen(process.env.PORT || 8000);
process.on("SIGTERM", () => server.close(() => process.exit(0)));
