// A browser without a screen, for sign-ins in which nobody has to type: follows redirects, keeps
// cookies, and presses the button that goes on in bartizan's own pages.

/** Attribute of a tag, with its character references resolved. */
function attribute(tag, name) {
  const found = new RegExp(`\\s${name}="([^"]*)"`).exec(tag);
  return found && found[1].replace(/&#(x?)([0-9a-f]+);/gi, (_, hex, code) => String.fromCodePoint(parseInt(code, hex ? 16 : 10)))
    .replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&quot;", '"').replaceAll("&amp;", "&");
}

/** The form that a person would send, as {action, body}. */
function formOf(html, here) {
  const button = /<button[^>]*\s(?:name="decision"[^>]*value="allow"|value="allow"[^>]*name="decision"|name="connect"[^>]*value="yes")[^>]*>/.exec(html);
  if (!button) return undefined;
  const start = html.lastIndexOf("<form", button.index);
  const form = html.slice(start, html.indexOf("</form>", start));
  const body = new URLSearchParams();
  for (const [input] of form.matchAll(/<input[^>]*>/g)) body.append(attribute(input, "name"), attribute(input, "value") ?? "");
  body.append(attribute(button[0], "name"), attribute(button[0], "value"));
  return { action: new URL(attribute(form, "action"), here), body };
}

export class Walker {
  /** By origin, because cookies do not know ports and these servers share a host. */
  #cookies = new Map();
  /** Every page and redirect, for whoever looks for a fault. */
  seen = [];

  #keep(url, response) {
    const jar = this.#cookies.get(url.origin) ?? new Map();
    for (const line of response.headers.getSetCookie()) {
      const [pair] = line.split(";");
      const name = pair.slice(0, pair.indexOf("="));
      if (/;\s*max-age=0/i.test(line)) jar.delete(name);
      else jar.set(name, pair.slice(name.length + 1));
    }
    this.#cookies.set(url.origin, jar);
  }

  /** Goes on until a page asks nothing, or leads to an address that begins with `until`. */
  async walk(start, until) {
    let url = new URL(start);
    let form;
    for (let step = 0; step < 40; step += 1) {
      const jar = this.#cookies.get(url.origin) ?? new Map();
      const headers = { accept: "text/html", cookie: [...jar].map((pair) => pair.join("=")).join("; ") };
      const own = { origin: url.origin, "sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate" };
      const response = await fetch(url, {
        method: form ? "POST" : "GET",
        body: form,
        headers: form ? { ...headers, ...own } : headers,
        redirect: "manual",
      });
      this.seen.push(`${form ? "POST" : "GET"} ${url.origin}${url.pathname} ${response.status}`);
      this.#keep(url, response);
      const html = await response.text();
      form = undefined;
      const refresh = /<meta http-equiv="refresh" content="0; url=([^"]*)"/.exec(html);
      const next = response.headers.get("location") ?? (refresh && attribute(` url="${refresh[1]}"`, "url"));
      if (next) {
        url = new URL(next, url);
        if (until && String(url).startsWith(until)) return { url: String(url), text: "" };
        continue;
      }
      const found = formOf(html, url);
      if (!found) return { url: String(url), status: response.status, text: html.replace(/<[^>]*>/g, " ").replace(/\s+/g, " ") };
      url = found.action;
      form = found.body;
    }
    throw new Error(`going round in circles: ${this.seen.slice(-6).join(", ")}`);
  }
}
