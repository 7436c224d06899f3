// @ts-check
// What the API answers (web/api/timeline.py), with instants in ms, and what is drawn of it.

/**
 * @typedef {object} Tick
 * @property {number} at
 * @property {"day" | "hour"} kind
 * @property {string} label
 *
 * @typedef {object} Away
 * @property {string} id
 * @property {number} start
 * @property {number} end
 * @property {string} reason
 *
 * @typedef {object} Group units of one resource on one node; `node` is "" for what waits
 * @property {string} node
 * @property {string} resource
 * @property {string} model
 * @property {boolean} simulated
 * @property {number} capacity
 * @property {number} rows
 * @property {Away[]} outages
 *
 * @typedef {object} Bar a booking on one node; `kind` "maintenance" is drawn in the same way
 * @property {string} key
 * @property {string} id
 * @property {string | null} node
 * @property {string} resource
 * @property {string} profile
 * @property {number} units
 * @property {number[]} rows
 * @property {number} start
 * @property {number} end
 * @property {string | null} owner
 * @property {boolean} mine
 * @property {string} kind
 * @property {boolean} preemptible a job that makes way for bookings
 * @property {"waiting" | "booked" | "active" | "ended"} state
 * @property {string | null} title
 * @property {boolean} pinned
 * @property {boolean} stopping
 * @property {string | null} etag
 *
 * @typedef {object} Timeline
 * @property {number} start
 * @property {number} end
 * @property {number} now
 * @property {string} zone
 * @property {string} date
 * @property {Tick[]} ticks
 * @property {Group[]} groups
 * @property {Bar[]} bars
 * @property {Bar[]} waiting
 * @property {number} capacity
 * @property {string} summary
 *
 * @typedef {object} Profile
 * @property {string} name
 * @property {string} title
 * @property {string} resource
 * @property {number} units
 * @property {number} max_units
 * @property {number} min_duration ms
 * @property {number} default_duration ms
 * @property {number} max_duration ms
 * @property {string[]} nodes
 *
 * @typedef {object} Alternative
 * @property {string} kind
 * @property {Record<string, unknown>} request
 *
 * @typedef {object} Lane a group as it is drawn: where it begins and how high each of its rows is, in px
 * @property {Group} group
 * @property {Bar[]} bars
 * @property {number} top
 * @property {number} rowHeight
 * @property {number} height
 *
 * @typedef {object} Wish what somebody wants to have
 * @property {string} profile
 * @property {number} units
 * @property {string | null} node
 * @property {number} start
 * @property {number} end
 */

export {};
