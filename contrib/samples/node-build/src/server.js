const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");

const page = fs.readFileSync(path.join(__dirname, "page.html"));
const server = http.createServer((request, response) => response.end(page));
server.listen(process.env.PORT || 8000);
process.on("SIGTERM", () => server.close(() => process.exit(0)));
