// Package proof holds the tests that prove the promises from the outside: gateways
// and functions are processes of the programs as they are built, Kafka and Redis are
// servers, and what the tests know they have from HTTP and from the topics.
//
//	go test ./internal/proof/                                            # embedded Kafka (a process) and Redis
//	scripts/with-real go test ./internal/proof/                          # Apache Kafka and redis-server
//	scripts/with-real go test ./internal/proof/ -proof.commands 20000    # the full run
//	go test ./internal/proof/ -run TestProof -proof.seed 7               # other commands
//
// Clients write down what they sent and what they were told: that a command was
// accepted, that it was not, or that they do not know. When a run is over, the
// checker ([verify.Checker], with what the bank adds to it) holds this history
// against what a committed reader sees of the topics; the HTTP API and Redis are
// held against them, too. Where dispatchers run, it asks them again about each
// event, and counts the money. Its own tests show that it notices each kind of lie.
//
// Programs built with the tag crashpoints end at the points that internal/crash
// lists; [TestCrashPoints] has a gateway die at each of those of the engine, under
// one load, and [TestCrashBetweenDecisionAndCommand] at those of dispatchers:
//
//	go test ./internal/proof/ -run TestCrashPoints -proof.seed 7                         # other passages, in another order
//	go test ./internal/proof/ -run TestCrashPoints -proof.points txn-offsets:3 -proof.turns 5 # one point, at its third passage
//
// The embedded broker differs from Apache Kafka where ownership is concerned; what
// these tests say of fencing, and how fast, counts on the real one. What happens
// when brokers fall silent, die and come back is tested there alone, on brokers of
// the test's own (scripts/make-brokers).
//
// The fault campaign (faults_test.go, fault_*_test.go) is a list of things that go
// wrong, each tried by itself in a fresh installation under load: warm-up, fault,
// heal, quiet, check. It is no part of the other tests: make faults, make faults-ci.
package proof
