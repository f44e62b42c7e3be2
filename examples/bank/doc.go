// Package bank is the example of Evento's own documents: checking, savings and
// credit accounts, the clients they belong to, and the money that moves between
// them. README.md shows it in one page.
//
// Each aggregate has a folder with what its author writes (handler.go,
// aggregator.go and their tests) and the code generated from its schema (gen).
// Each dispatcher has a folder with its reactions and their tests. The programs
// that serve them, handler and aggregator apart or both in one, are those of the
// templates, which stack.yml names.
package bank
