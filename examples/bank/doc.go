// Package bank is the example of Evento's own documents: accounts that take
// deposits and give money.
//
// Each aggregate has a folder with what its author writes (handler.go,
// aggregator.go and their tests), the code generated from its schema (gen), and
// main programs that serve it: handler and aggregator apart, or both in one.
package bank
