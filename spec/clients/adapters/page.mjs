// The try-out page in a browser, at the sizes and in the colours that people have: what axe-core finds there, what
// the console says, whether anything is wider than the screen, and whether what the page prints as code works.
// Arguments: browser ("chrome" or "firefox"), the page's address. Environment: PROGRAM (the browser's), TOKEN.
// Prints one JSON document.
import { createRequire } from "node:module";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const [browserName, address] = process.argv.slice(2);
const token = process.env.TOKEN;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const home = mkdtempSync(join(tmpdir(), "tidegate-page-"));
const browser = await puppeteer.launch({
  browser: browserName, executablePath: process.env.PROGRAM, headless: true, userDataDir: join(home, "profile"),
  env: { ...process.env, HOME: home },
  args: browserName === "chrome" ? ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] : [],
});
process.on("SIGTERM", async () => {
  await browser.close();
  process.exit(1);
});

// Firefox before 141 has no command for the orientation, which setViewport() sends as well.
async function setWidth(page, width) {
  try {
    await page.setViewport({ width, height: 900 });
  } catch (error) {
    if (!String(error).includes("unknown command")) throw error;
  }
  const got = await page.evaluate(() => window.innerWidth);
  if (got !== width) throw new Error(`the window is ${got} pixels wide, not ${width}`);
}

const result = { screens: [], console: [] };
try {
  const page = await browser.newPage();
  page.on("console", (message) => result.console.push(message.text()));
  page.on("pageerror", (error) => result.console.push(String(error)));
  // Not by its frames (the default): a browser without a screen may draw none.
  const state = (text) =>
    page.waitForFunction((t) => document.getElementById("state").textContent.includes(t), { polling: 50 }, text);
  const screen = { name: "" };
  for (const width of [1280, 390]) {
    for (const scheme of ["light", "dark"]) {
      await setWidth(page, width);
      // Firefox takes the scheme before the page loads, Chromium at any time.
      if (browserName === "chrome") await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      else if (scheme === "dark") continue;
      screen.name = `${width} ${scheme}`;
      await page.goto(address);
      await state("refused"); // the page has asked by itself, without a token; what it shows then moves the buttons
      await page.evaluate((t) => { document.getElementById("token").value = t; }, token);
      await page.click("#subscribe button");
      try {
        await state("open");
      } catch (error) { // seen once: Chromium left the request pending
        console.error(screen.name, await page.$eval("#state", (e) => e.textContent), String(error));
        await page.click("#subscribe button");
        await state("open");
      }
      await page.click("#publish button");
      await page.waitForSelector("#events li");
      await page.evaluate(() => { document.getElementById("topic").value = "secret"; });
      await page.click("#subscribe button"); // a refusal shows, too
      await state("refused");
      await page.evaluate(axe);
      result.screens.push({
        name: screen.name,
        ...await page.evaluate(async () => ({
          violations: (await axe.run()).violations.map((v) => v.id + ": " + v.nodes.map((n) => n.target.join(" ")).join(", ")),
          overflow: document.documentElement.scrollWidth > document.documentElement.clientWidth,
          eventsTop: document.getElementById("h-events").getBoundingClientRect().top,
          formTop: document.getElementById("h-subscribe").getBoundingClientRect().top,
        })),
      });
    }
  }
  // A refusal whose text is still under way when somebody asks again: it must not take the place of what comes after it.
  result.left = await (async () => {
    await page.evaluate(() => {
      const real = window.fetch;
      window.asked = [];
      window.fetch = (url, options) => {
        window.asked.push(options.signal);
        if (window.asked.length > 1) return real(url, options);
        const text = new ReadableStream({
          start(c) { options.signal.addEventListener("abort", () => c.close()); },
        });
        return Promise.resolve(new Response(text, { status: 403 }));
      };
      document.getElementById("topic").value = "demo/hello";
    });
    await page.click("#subscribe button");
    await page.click("#subscribe button");
    await state("open");
    await page.click("#stop");
    return page.evaluate(() => window.asked.filter((signal) => !signal.aborted).length);
  })();
  result.code = await page.evaluate(() => {
    document.getElementById("topic").value = "demo/hello";
    const type = document.getElementById("publish-data");
    type.value = "it's \"ü\" 😀 \\ $x";
    const all = {};
    for (const language of ["curl", "javascript", "python"]) {
      document.getElementById("language").value = language;
      document.getElementById("language").dispatchEvent(new Event("input", { bubbles: true }));
      all[language] = ["code-subscribe", "code-publish"].map((id) => document.getElementById(id).textContent);
    }
    return all;
  });
} finally {
  await browser.close();
  rmSync(home, { recursive: true, force: true, maxRetries: 20 });
}
console.log(JSON.stringify(result));
