// What who teaches says to a class: it stays until it is dismissed, here or on a page of MLMP.
import { Dialog, Notification, showDialog } from "@jupyterlab/apputils";
import { ask } from "./api";
import { BookingModel } from "./booking";

const SHOWN = 140; // characters that Lab shows of a notification

export function showMessages(model: BookingModel): void {
  const open = new Map<number, string>(); // the notification of each message
  const dismissed = new Set<number>();

  const read = (id: number): void => {
    // What fails is done again at the next look.
    ask(`messages/${id}`, "POST", {}).catch((error) => console.warn("a message:", error));
  };

  const show = (text: string): string => {
    const whole = () => void showDialog({ title: "Said in class", body: text, buttons: [Dialog.okButton()] });
    const dismiss = { label: "Dismiss", callback: () => Notification.dismiss(note) };
    const actions = text.length > SHOWN ? [{ label: "Read All of It", callback: whole }, dismiss] : [dismiss];
    const note: string = Notification.info(text, { autoClose: false, actions });
    return note;
  };

  const look = (): void => {
    const there = new Set(model.messages.map((one) => one.id));
    for (const [id, note] of [...open]) {
      if (there.has(id)) continue; // it was read elsewhere
      open.delete(id);
      Notification.dismiss(note);
    }
    for (const { id, text } of model.messages) {
      if (dismissed.has(id)) read(id);
      else if (!open.has(id)) open.set(id, show(text));
    }
  };

  Notification.manager.changed.connect((_, { type, notification }) => {
    const [id] = [...open].find(([, note]) => note === notification.id) ?? [null];
    if (type !== "removed" || id === null) return;
    open.delete(id);
    dismissed.add(id);
    read(id);
  });
  model.changed.connect(look);
}
