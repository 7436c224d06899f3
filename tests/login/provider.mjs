// A real OpenID provider (oidc-provider) with people that a test changes: PUT and DELETE /people/NAME, and
// POST /silence {"paths": ["/token"]} for one that answers 503 to what begins so.
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const [port, callback, accessTokenSeconds] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const people = new Map();
let silent = [];

const provider = new Provider(issuer, {
  clients: [{
    client_id: "mlmp", client_secret: "the secret of the client", redirect_uris: [callback],
    grant_types: ["authorization_code", "refresh_token"], token_endpoint_auth_method: "client_secret_post",
  }],
  findAccount: (_, id) => (people.has(id) ? {
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id, ...people.get(id) }),
  } : undefined),
  claims: { openid: ["sub"], profile: ["preferred_username", "name"], groups: ["groups"] },
  scopes: ["openid", "offline_access"],
  routes: { userinfo: "/userinfo" },
  ttl: { AccessToken: Number(accessTokenSeconds), Grant: 86400, Session: 86400, Interaction: 600, IdToken: 600,
         RefreshToken: 86400, AuthorizationCode: 60 },
  rotateRefreshToken: true,  // each renews once; a second use takes all of a person's tokens back
  cookies: { keys: ["for tests only"] },
});

const body = async (request) => {
  let text = "";
  for await (const part of request) text += part;
  return JSON.parse(text);
};
const answer = provider.callback();

createServer(async (request, response) => {
  const name = /^\/people\/(.+)$/.exec(request.url)?.[1];
  if (request.url === "/silence") silent = (await body(request)).paths;
  else if (name && request.method === "PUT") people.set(name, await body(request));
  else if (name && request.method === "DELETE") people.delete(name);
  else if (silent.some((path) => request.url.startsWith(path))) return response.writeHead(503).end("not now");
  else return answer(request, response);
  response.writeHead(204).end();
}).listen(Number(port), "127.0.0.1", () => console.log("ready"));
