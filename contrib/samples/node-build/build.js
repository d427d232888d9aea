// The build step: puts together dist/, with a package that is not there any more when the app runs.
const fs = require("node:fs");
const ms = require("ms");

const page = fs.readFileSync("src/page.html", "utf8").replace("@DAY@", String(ms("1 day")));
fs.mkdirSync("dist", { recursive: true });
fs.writeFileSync("dist/page.html", page);
fs.copyFileSync("src/server.js", "dist/server.js");
