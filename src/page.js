// The files of the page, from the assets, with the headers that they need: `page.rs` says who gets them.

export async function sendPage(assets, method, url, deployment) {
  const asset = await assets.fetch("https://assets/index.html");
  if (asset.status !== 200) return undefined;
  // In a script's element, only the end of the element has a meaning.
  const described = deployment.replaceAll("<", "\\u003c");
  const page = (await asset.text()).replace("%DEPLOYMENT%", () => described);
  const { hostname } = new URL(url);
  return new Response(method === "HEAD" ? null : page, {
    headers: {
      ...COMMON_HEADERS,
      "Content-Type": "text/html; charset=utf-8",
      "Cache-Control": "no-cache",
      "Content-Security-Policy": contentSecurityPolicy(LOOPBACK.test(hostname)),
      "Permissions-Policy": "microphone=(), camera=()",
      Vary: "Accept",
    },
  });
}

export async function sendLivekitClient(assets, method) {
  const asset = await assets.fetch("https://assets/livekit-client.js");
  if (asset.status !== 200) return undefined;
  if (method === "HEAD") await asset.body?.cancel();
  return new Response(method === "HEAD" ? null : asset.body, {
    headers: {
      ...COMMON_HEADERS,
      "Content-Type": "text/javascript; charset=utf-8",
      // The page asks for it with its version.
      "Cache-Control": "public, max-age=86400",
    },
  });
}

// The build defines the hashes. A test setup on loopback has homeservers and SFUs without TLS.
function contentSecurityPolicy(isLoopback) {
  return [
    "default-src 'none'",
    `script-src ${PAGE_SCRIPTS}`,
    `style-src ${PAGE_STYLES}`,
    "img-src data:",
    `connect-src 'self' https: wss:${isLoopback ? " http: ws:" : ""}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}

const COMMON_HEADERS = { "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer" };
const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/;
