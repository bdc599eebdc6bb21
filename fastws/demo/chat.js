// The chat room. What others wrote is text, never markup: only textContent is set.

import { keepOpen } from "./socket.js";

const MOST_LINES = 200;
const HUES = 8; // as many as style.css has
const ADJECTIVES = ["Amber", "Brisk", "Clever", "Dapper", "Gentle", "Lucky", "Mellow", "Nimble", "Quiet", "Sunny"];
const ANIMALS = ["Badger", "Falcon", "Heron", "Lynx", "Marten", "Otter", "Puffin", "Seal", "Stoat", "Wren"];

const $ = (id) => document.getElementById(id);
const log = $("log");
const text = $("text");
const nickname = $("nickname");
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

let socket = null;
let room = null; // the server's, as long as it runs
let lastSeen = 0;
let wasHere = false;
const mine = new Set(); // the ids that this page had in this room
let myName = remembered() || `${pick(ADJECTIVES)} ${pick(ANIMALS)}`;
nickname.value = myName;

function pick(list) {
  return list[Math.floor(Math.random() * list.length)];
}

function remembered() {
  try {
    return localStorage.getItem("nickname");
  } catch {
    return null; // storage is switched off
  }
}

function remember(name) {
  try {
    localStorage.setItem("nickname", name);
  } catch {
    // then it is forgotten
  }
}

function element(tag, className, content) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = content;
  return made;
}

function hue(name) {
  let sum = 7;
  for (const char of name) sum = (sum * 31 + char.codePointAt(0)) % 9973;
  return sum % HUES;
}

function append(line) {
  const following = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  log.append(line);
  while (log.children.length > MOST_LINES) log.firstElementChild.remove();
  if (following) log.scrollTop = log.scrollHeight;
}

function notice(content) {
  append(element("li", "notice", content));
}

function said({ n, id, name, text, time }) {
  lastSeen = n;
  const line = element("li", mine.has(id) ? "line mine" : "line", "");
  const avatar = element("span", "avatar", [...name][0].toUpperCase());
  avatar.dataset.hue = hue(name);
  avatar.setAttribute("aria-hidden", "true");
  const head = element("p", "head", "");
  const when = element("time", "", clock.format(time * 1000));
  when.dateTime = new Date(time * 1000).toISOString();
  head.append(element("strong", "", name), " ", when);
  const body = element("div", "body", "");
  body.append(head, element("p", "bubble", text));
  line.append(avatar, body);
  append(line);
}

const on = {
  welcome({ room: theirs, id, history, here }) {
    if (theirs !== room) {
      mine.clear(); // a new server counts from the beginning
      lastSeen = 0;
    }
    room = theirs;
    mine.add(id);
    for (const one of history) if (one.n > lastSeen) said(one);
    if (wasHere) notice("You are back");
    wasHere = true;
    count(here);
    text.disabled = $("send").disabled = false;
  },
  said,
  joined({ name, here }) {
    notice(`${name} joined`);
    count(here);
  },
  left({ name, here }) {
    notice(`${name} left`);
    count(here);
  },
  renamed({ before, name }) {
    notice(`${before} is now ${name}`);
  },
};

function count(here) {
  $("here").textContent = here === 1 ? "1 person here" : `${here} people here`;
  $("alone").hidden = here > 1 || log.querySelector(".line") !== null;
}

function send(message) {
  if (socket?.readyState !== WebSocket.OPEN) return false;
  socket.send(JSON.stringify(message));
  return true;
}

function rename() {
  const name = nickname.value.trim() || myName;
  nickname.value = name;
  if (name === myName) return;
  myName = name;
  remember(name);
  send({ type: "name", name });
}

nickname.addEventListener("change", rename);
nickname.addEventListener("keydown", (event) => {
  if (event.key === "Enter") text.focus(); // the change event renames
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const content = text.value.trim();
  if (content && send({ type: "say", text: content })) {
    text.value = "";
    log.scrollTop = log.scrollHeight;
  }
});

keepOpen("/chat", $("chat-status"), {
  opened(fresh) {
    socket = fresh;
    send({ type: "name", name: myName });
  },
  message(data) {
    const message = JSON.parse(data);
    on[message.type]?.(message);
    if (message.type === "said") $("alone").hidden = true;
  },
  lost() {
    socket = null;
    $("here").textContent = "";
    text.disabled = $("send").disabled = true;
  },
});
