"""The portal's one page, with the element ids of the real one so that a browser test fits both."""

from __future__ import annotations

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Login - Authelia</title>
<script src="/static/js/portal.js" defer></script>
</head>
<body data-basepath="" data-double="authelia_double">
<main id="root">
<p id="notification" role="status"></p>
<section id="first-factor-stage" hidden>
<h1>Sign in</h1>
<form id="form-login">
<label>Username <input id="username-textfield" autocomplete="username" required></label>
<label>Password <input id="password-textfield" type="password"
 autocomplete="current-password" required></label>
<label><input id="remember-checkbox" type="checkbox"> Remember me</label>
<button id="sign-in-button" type="submit">Sign in</button>
</form>
</section>
<section id="second-factor-stage" hidden>
<h1>Hi <span class="display-name"></span></h1>
<div id="one-time-password-method">
<h2>One-Time Password</h2>
<span id="otp-input"></span>
<p id="not-registered" hidden>Register your first device: <a id="register-link"
 href="/settings/two-factor-authentication">Register device</a></p>
</div>
</section>
<section id="authenticated-stage" hidden>
<h1>Hi <span class="display-name"></span></h1>
<p>Authenticated</p>
</section>
<button id="logout-button" type="button" hidden>Logout</button>
</main>
<footer>This is a lab double, not Authelia.</footer>
</body>
</html>
"""

SCRIPT = """"use strict";
const parameters = new URLSearchParams(location.search);
const target = parameters.get("rd") || undefined;
const byId = id => document.getElementById(id);

async function call(method, path, body) {
  const answer = await fetch(path, {
    method, credentials: "same-origin",
    headers: body ? {"Content-Type": "application/json"} : {},
    body: body && JSON.stringify(body),
  });
  const document = await answer.json().catch(() => ({}));
  if (!answer.ok || document.status !== "OK") {
    throw new Error(document.message || "Authentication failed, please retry later.");
  }
  return document.data || {};
}

function show(stage, name) {
  for (const section of document.querySelectorAll("main > section")) {
    section.hidden = section.id !== stage;
  }
  for (const place of document.querySelectorAll(".display-name")) { place.textContent = name; }
  byId("logout-button").hidden = stage === "first-factor-stage";
}

function tell(text) {
  const place = byId("notification");
  place.textContent = text;
  place.className = text ? "notification error" : "";
}

async function refresh() {
  const state = await call("GET", "/api/state");
  if (state.authentication_level === 0) {
    show("first-factor-stage", "");
    byId("username-textfield").focus();
    return;
  }
  const configuration = await call("GET", "/api/configuration");
  const user = await call("POST", "/api/user/info");
  if (state.authentication_level === 1 && configuration.available_methods.length) {
    show("second-factor-stage", user.display_name);
    byId("otp-input").hidden = !user.has_totp;
    byId("not-registered").hidden = user.has_totp;
    byId("otp-input").firstElementChild?.focus();
    return;
  }
  const safe = target && (await call("POST", "/api/checks/safe-redirection", {uri: target})).ok;
  if (safe) { location.assign(target); return; }
  if (state.default_redirection_url && state.authentication_level === 2 && !target) {
    location.assign(state.default_redirection_url);
    return;
  }
  show("authenticated-stage", user.display_name);
}

async function follow(answer) {
  if (answer.redirect) { location.assign(answer.redirect); } else { await refresh(); }
}

byId("form-login").addEventListener("submit", async event => {
  event.preventDefault();
  tell("");
  try {
    await follow(await call("POST", "/api/firstfactor", {
      username: byId("username-textfield").value,
      password: byId("password-textfield").value,
      keepMeLoggedIn: byId("remember-checkbox").checked,
      targetURL: target, requestMethod: parameters.get("rm") || undefined,
    }));
  } catch (error) {
    byId("password-textfield").value = "";
    tell("Incorrect username or password.");
  }
});

const dial = byId("otp-input");
for (let number = 0; number < 6; number += 1) {
  const input = document.createElement("input");
  input.inputMode = "numeric";
  input.autocomplete = "one-time-code";
  input.maxLength = 6;
  input.size = 1;
  input.setAttribute("aria-label", `Digit ${number + 1}`);
  dial.append(input);
}
dial.addEventListener("input", async event => {
  const inputs = [...dial.children];
  const start = inputs.indexOf(event.target);
  const digits = event.target.value.replace(/\\D/g, "").slice(0, inputs.length - start);
  event.target.value = "";
  [...digits].forEach((digit, offset) => { inputs[start + offset].value = digit; });
  inputs[Math.min(start + Math.max(digits.length, 0), inputs.length - 1)].focus();
  const token = inputs.map(input => input.value).join("");
  if (token.length !== inputs.length) { return; }
  tell("");
  try {
    await follow(await call("POST", "/api/secondfactor/totp", {token, targetURL: target}));
  } catch (error) {
    for (const input of inputs) { input.value = ""; }
    inputs[0].focus();
    tell("The one-time password might be wrong");
  }
});

byId("logout-button").addEventListener("click", async () => {
  await call("POST", "/api/logout", {});
  location.assign("/");
});

refresh().catch(error => tell(error.message));
"""
