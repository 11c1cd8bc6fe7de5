// A request to the PostgREST that POSTGREST_URL names.
'use strict';

// A body that is no JSON is the text it is; null is none.
async function http(caller, method, path, { body, headers, signal } = {}) {
  const response = await fetch(process.env.POSTGREST_URL + path, {
    method,
    signal,
    headers: {
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...(caller.token && { authorization: `Bearer ${caller.token}` }),
      ...headers,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  let answer = text;
  try {
    answer = text === '' ? null : JSON.parse(text);
  } catch {
    // not JSON: the text it is
  }
  return { status: response.status, body: answer, headers: response.headers };
}

module.exports = { http };
