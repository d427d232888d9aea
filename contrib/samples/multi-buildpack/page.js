require("node:fs").writeFileSync("page.html", `<h1>Made by Node.js, served by Python: ${6 * 7}</h1>\n`);
