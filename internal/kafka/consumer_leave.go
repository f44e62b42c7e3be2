package kafka

import "time"

// leave commits, gives the partitions up and leaves the group, in steps that librdkafka
// takes together in Close, and then takes wrongly: when a rebalance is under way, it
// leaves the group before the callback has committed, and may end before it has
// answered what the callback asks, which then waits for ever (librdkafka issue 4884,
// confluent-kafka-go issue 1016). So a rebalance that is under way comes to its end
// first; after Unsubscribe there is no other.
func (x *Consumer) leave() {
	x.leaving = true
	end := time.Now().Add(consumerStop)
	for !x.atRest() && time.Now().Before(end) {
	}
	x.commit(nil)
	if err := x.client.Unsubscribe(); err != nil {
		x.cfg.Log.Warn("leave a consumer group", "group", x.cfg.Group, "err", err)
	}
	for !x.quiet() && time.Now().Before(end) {
	}
	// Had a rebalance come in between, partitions were assigned that nobody owns.
	if err := x.client.Unassign(); err != nil {
		x.cfg.Log.Warn("leave a consumer group", "group", x.cfg.Group, "err", err)
	}
}

// atRest hears the library, and says whether the group has given partitions to this
// member, or said that there are none for it, and nothing has come since.
func (x *Consumer) atRest() bool {
	x.pressure()
	return x.quiet() && x.member
}

// quiet hears the library, and says whether it had nothing to say. What it has read is
// left for whoever goes on.
func (x *Consumer) quiet() bool {
	x.told = false
	return x.client.Poll(5) == nil && !x.told // a rebalance is not returned
}

// close ends the client. Should librdkafka hang nevertheless, it is left behind.
func (x *Consumer) close() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := x.client.Close(); err != nil {
			x.cfg.Log.Warn("close a kafka consumer", "group", x.cfg.Group, "err", err)
		}
		x.logs.Wait()
	}()
	select {
	case <-done:
	case <-time.After(consumerClose):
		x.cfg.Log.Error("a kafka consumer does not close; it is left behind", "group", x.cfg.Group, "after", consumerClose)
	}
}

// consumerClose is how long a client may take to close: it waits until the group's
// coordinator knows that the member has left.
const consumerClose = 15 * time.Second
