// The development server passes the hub's requests on, as in an application whose page uses a relative address.
export default {
  server: { host: "127.0.0.1", strictPort: true, proxy: { "/socket.io": { target: process.env.HUB_URL, ws: true } } },
};
