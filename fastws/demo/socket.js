// A WebSocket that opens itself again, and a status line that says how it is.

const FIRST = 250; // milliseconds
const LONGEST = 5000;

// Calls opened(socket), message(data) and lost(); shows the state in `status`, an element with a .label in it.
export function keepOpen(path, status, { opened, message, lost }) {
  const url = new URL(path, location.href.replace(/^http/, "ws"));
  const label = status.querySelector(".label");
  let delay = FIRST;
  let timer = 0;
  let waiting = false;

  function show(state, text) {
    status.dataset.state = state;
    label.textContent = text;
  }

  function connect() {
    clearTimeout(timer);
    waiting = false;
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      delay = FIRST;
      show("open", "Connected");
      opened(socket);
    };
    socket.onmessage = (event) => message(event.data);
    socket.onclose = () => {
      lost();
      show("lost", "Reconnecting …");
      // Up to a quarter less, so that the pages of a server that came back do not all knock at once.
      timer = setTimeout(connect, delay * (1 - Math.random() / 4));
      waiting = true;
      delay = Math.min(delay * 1.7, LONGEST);
    };
  }

  function hurry() {
    if (waiting && !document.hidden) connect();
  }

  addEventListener("online", hurry);
  document.addEventListener("visibilitychange", hurry);
  show("new", "Connecting …");
  connect();
}
