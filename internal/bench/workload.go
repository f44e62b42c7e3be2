package bench

import (
	"fmt"
	"math/rand/v2"
	"strconv"
)

// Workload says which aggregates the commands go to, and from how many clients.
type Workload struct {
	Name       string
	Aggregates int
	Clients    int // 0: as many as the run says
	About      string
}

// Workloads are all there are, in the order in which they are shown.
func Workloads() []Workload {
	return []Workload{
		{Name: "uniform", Aggregates: 1_000, About: "1,000 aggregates, each as likely"},
		{Name: "hot", Aggregates: 1, About: "one aggregate"},
		{Name: "wide", Aggregates: 100_000, About: "100,000 aggregates, more than stay in caches"},
		{Name: "alone", Aggregates: 100, Clients: 1, About: "one client, nothing else going on"},
	}
}

// FindWorkload returns the workload with the name. The error lists the names.
func FindWorkload(name string) (Workload, error) {
	names := ""
	for _, w := range Workloads() {
		if w.Name == name {
			return w, nil
		}
		names += " " + w.Name
	}
	return Workload{}, fmt.Errorf("there is no workload %q; there are:%s", name, names)
}

// commands builds the bodies of one client's commands.
type commands struct {
	run        string // part of all ids, so that runs do not meet
	client     int
	aggregates int
	rand       *rand.Rand
	n          int64
}

func (c *commands) entity(b []byte, i int) []byte {
	b = append(b, "checking:bench-"...)
	b = append(b, c.run...)
	b = append(b, '-')
	return strconv.AppendInt(b, int64(i), 10)
}

// open appends the command that opens the aggregate i. Its id is always the
// same: opened twice is opened once.
func (c *commands) open(b []byte, i int) []byte {
	b = append(b, `{"entity":"`...)
	b = c.entity(b, i)
	return append(b, `","command_type":"OpenCheckingAccount","id":"open","payload":{"client":"client:bench","currency":"USD"}}`...)
}

// next appends a deposit to some aggregate.
func (c *commands) next(b []byte) []byte {
	c.n++
	b = append(b, `{"entity":"`...)
	b = c.entity(b, c.rand.IntN(c.aggregates))
	b = append(b, `","command_type":"ReceiveDeposit","id":"`...)
	b = c.id(b)
	b = append(b, `","payload":{"transaction_id":"`...)
	b = c.id(b)
	return append(b, `","source":"bench","amount":{"minor":1,"currency":"USD"}}}`...)
}

func (c *commands) id(b []byte) []byte {
	b = strconv.AppendInt(b, int64(c.client), 36)
	b = append(b, '-')
	return strconv.AppendInt(b, c.n, 36)
}
