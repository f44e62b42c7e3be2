// Package httplimit keeps an HTTP server in bounds whatever its clients do, and
// serves the others meanwhile. It imports the standard library alone.
//
// What an idle or slow client holds gives way as soon as somebody else needs it:
//
//   - [Listener] bounds the open connections. Beyond the bound the connection
//     that has been without a request for the longest is closed for the new one.
//   - [Bodies] bounds the memory of request bodies. Bytes count as they arrive,
//     not as they are announced, and when they are too many in all, the body that has been on its
//     way for the longest is given up.
//
// Everything else (headers, times) net/http bounds by itself, once it is told to.
package httplimit
