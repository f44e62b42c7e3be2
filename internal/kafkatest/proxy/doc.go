// Package proxy is the network between Kafka's clients and its brokers, as tests
// want it: late, slow, one-sided, broken.
//
// A [Proxy] listens on loopback ports, one for each broker that it hears of, and
// passes on Kafka's protocol in both directions. Where an answer names a broker's
// address, it puts its own in its place, so that a client that was given
// [Proxy.Servers] never leaves it. One proxy stands for the network of one
// client, or of one process with all its clients: what happens to it happens to
// nobody else.
//
// What goes wrong is said by rules ([Rule], [Proxy.Add]), for requests or answers
// of certain kinds, of certain clients, or for all:
//
//   - [Hold] keeps them until the rule ends. What is behind them on the same
//     connection waits too, as it does in TCP. A client that closes its connection
//     meanwhile takes nothing back: what it had sent reaches the broker late.
//   - [Delay] makes each later, by a time with jitter; the order stays.
//   - [Lose] lets nothing of this direction of the connection through any more,
//     from this one on. The connection stays open, and who waits goes on waiting.
//   - [Reset] cuts the connection where it meets this one. The answer to a request
//     is cut off when the broker has already done what it was asked.
//   - [Limit] is a bandwidth.
//
// Held in both directions, everything together, is a partition; in one direction a
// one-sided one. Connections are still accepted in it, and then silent.
//
// The proxy speaks plaintext, without SASL's old raw exchange, and knows the
// versions of requests that franz-go's kmsg knows: brokers are made to look as if
// they had no later ones.
package proxy
