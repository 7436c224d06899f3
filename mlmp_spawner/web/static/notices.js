// Notices as they come: a toast on the page, and the system's own notification while nobody sees the page.

const SHOWN_FOR = 12000; // ms, unless the person is at it
const MOST = 3;

/** Whether the system may show notices while the page is in the background. */
export const mayNotify = () => "Notification" in window && Notification.permission === "granted";

/** Shows a notice as the stream has it: `{id, headline, text, reservation, job}`. */
export function tell(notice) {
  const root = document.getElementById("mlmp").dataset.root;
  const url = root + (about("jobs", notice.job) || about("bookings", notice.reservation) || "notices");
  if (document.hidden && mayNotify()) {
    try {
      const shown = new Notification(notice.headline, { body: notice.text, tag: `mlmp-${notice.id}` });
      shown.onclick = () => {
        focus();
        location.assign(url);
      };
    } catch {
      // some phones only let service workers do it
    }
  }
  toast(notice, url);
}

const about = (pages, id) => id && `${pages}/${encodeURIComponent(id)}`;

function toast({ id, headline, text }, url) {
  const place = document.getElementById("toasts");
  if (!place || document.getElementById(`toast-${id}`)) return;
  const box = document.createElement("div");
  box.className = "mlmp-toast";
  box.id = `toast-${id}`;
  const words = document.createElement("div");
  const link = document.createElement("a");
  link.href = url;
  link.textContent = headline;
  const more = document.createElement("p");
  more.textContent = text;
  words.append(link, more);
  const close = document.createElement("button");
  close.type = "button";
  close.className = "btn-close";
  close.setAttribute("aria-label", "Close");
  close.addEventListener("click", () => box.remove());
  box.append(words, close);
  place.append(box);
  while (place.children.length > MOST) place.firstElementChild.remove();
  const away = () => {
    if (box.matches(":hover, :focus-within") || document.hidden) setTimeout(away, 2000);
    else box.remove();
  };
  setTimeout(away, SHOWN_FOR);
}

/** The page of preferences: the browser's leave, and copying the address of the calendar. */
export function preferences() {
  const ask = document.getElementById("allow-notices");
  if (ask && "Notification" in window) {
    const say = () => {
      ask.hidden = Notification.permission !== "default";
      document.getElementById("allowed-notices").hidden = !mayNotify();
    };
    say();
    ask.addEventListener("click", async () => {
      await Notification.requestPermission();
      say();
    });
    document.getElementById("mlmp").addEventListener("mlmp:fresh", say);
  }
  for (const button of document.querySelectorAll("[data-copy]")) {
    const field = document.getElementById(button.dataset.copy);
    button.hidden = false;
    button.addEventListener("click", async () => {
      field.select();
      try {
        await navigator.clipboard.writeText(field.value);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Press Ctrl+C"; // it is selected
      }
    });
    field.addEventListener("focus", () => field.select());
  }
}
