// A request to the PostgREST that POSTGREST_URL names, or to another one.
'use strict';

// A body that is no JSON is the text it is; null is none. "bytes" are what came.
async function http(caller, method, path, { body, headers, signal, url = process.env.POSTGREST_URL } = {}) {
  const response = await fetch(url + path, {
    method,
    signal,
    headers: {
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...(caller.token && { authorization: `Bearer ${caller.token}` }),
      ...headers,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const bytes = Buffer.from(await response.arrayBuffer());
  const text = bytes.toString();
  let answer = text;
  try {
    answer = text === '' ? null : JSON.parse(text);
  } catch {
    // not JSON: the text it is
  }
  return { status: response.status, body: answer, headers: response.headers, bytes };
}

module.exports = { http };
