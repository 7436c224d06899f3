// The files of one's courses: brought by the server as it starts, and again when asked.
import { JupyterFrontEnd } from "@jupyterlab/application";
import { ICommandPalette, Notification } from "@jupyterlab/apputils";
import { Absent, ask, Refused } from "./api";

export const GET = "mlmp:get-course-files";
const EVERY = 2000;
const TRIES = 400;

interface Course {
  name: string;
  title: string;
  state: string;
  problems: string[];
  folder: string;
}

interface Courses {
  working: boolean;
  problem: string;
  items: Course[];
}

/** What came of it, once all is done. @throws Refused, Away, Absent */
async function done(found: Courses): Promise<Courses> {
  for (let i = 0; found.working && i < TRIES; i++) {
    await new Promise((resolve) => setTimeout(resolve, EVERY));
    found = await ask<Courses>("courses");
  }
  return found;
}

function tell(found: Courses, app: JupyterFrontEnd, asked: boolean): void {
  const actions = [{ label: "Try Again", callback: () => void app.commands.execute(GET) }];
  if (found.problem) Notification.error(`No course files. ${found.problem}`, { actions, autoClose: false });
  for (const one of found.items.filter((one) => one.problems.length > 0)) {
    Notification.error(`${one.title}: ${one.problems.join(" ")}`, { actions, autoClose: false });
  }
  const well = found.items.filter((one) => one.state === "done").map((one) => one.folder);
  if (!asked || found.problem) return;
  if (well.length > 0) Notification.success(`Up to date: ${well.join(", ")}`, { autoClose: 5000 });
  if (found.items.length === 0) Notification.info("You are in no course.", { autoClose: 5000 });
}

export function addCourses(app: JupyterFrontEnd, palette: ICommandPalette | null, category: string): void {
  app.commands.addCommand(GET, {
    label: "Get Course Files",
    execute: async () => {
      try {
        tell(await done(await ask<Courses>("courses", "POST", {})), app, true);
      } catch (error) {
        Notification.error(`No course files. ${(error as Error).message}`, { autoClose: false });
      }
    },
  });
  palette?.addItem({ command: GET, category });
  void app.restored.then(async () => {
    try {
      tell(await done(await ask<Courses>("courses")), app, false);
    } catch (error) {
      if (!(error instanceof Absent || error instanceof Refused)) console.warn("course files:", error);
    }
  });
}
