package simulate

import (
	"errors"
	"time"
)

// held is a partition as held in one term.
type held struct {
	part int32
	term int
}

var (
	errStale    = errors.New("partition is not held at this term")
	errNoMember = errors.New("not a member of the group")
	errWatchdog = errors.New("did not return in time")
)

const watchdog = 10 * time.Second

// fence is the gateway's: see internal/kafka/fence.go.
type fence struct {
	n          *node
	member     string
	generation int32
	terms      map[int32]int
	open       map[held]int
	last       int
	changed    cond
}

type pass struct {
	member     string
	generation int32
	held       []held
}

func (f *fence) assign(parts []int32) []held {
	f.member, f.generation = f.n.member, f.n.generation
	var list []held
	for _, p := range parts {
		f.last++
		f.terms[p] = f.last
		list = append(list, held{p, f.last})
	}
	f.changed.broadcast()
	return list
}

func (f *fence) drop(list []held) {
	for _, h := range list {
		if f.terms[h.part] == h.term {
			delete(f.terms, h.part)
		}
	}
	if len(f.terms) == 0 {
		f.member, f.generation = "", -1
	}
	f.changed.broadcast()
}

func (f *fence) all() []held {
	var list []held
	for p := range int32(f.n.w.partitions) {
		if t := f.terms[p]; t != 0 {
			list = append(list, held{p, t})
		}
	}
	return list
}

func (f *fence) refusal(list []held) error {
	for _, h := range list {
		if f.terms[h.part] != h.term && !f.n.w.has(bugTermIgnored) {
			return errStale
		}
	}
	if (f.member == "" || f.generation < 0) && !f.n.w.has(bugPreJoinGeneration) {
		return errNoMember
	}
	return nil
}

// enter lets a transaction in, or says why not.
func (f *fence) enter(p *proc, list []held) (pass, error) {
	for deadline := p.c.now + watchdog; ; {
		if err := f.refusal(list); err != nil {
			return pass{}, err
		}
		same := f.n.member == f.member && f.n.generation == f.generation
		if same || f.n.w.has(bugRebalancingGeneration) || f.n.w.has(bugPreJoinGeneration) || f.n.w.has(bugCachedGeneration) {
			for _, h := range list {
				f.open[h]++
			}
			return pass{f.member, f.generation, list}, nil
		}
		if p.c.now > deadline {
			return pass{}, errWatchdog
		}
		f.changed.wait(p, 20*time.Millisecond)
	}
}

// check says whether what was let in may go on to commit its offsets.
func (f *fence) check(ps pass) error {
	w := f.n.w
	if w.has(bugRebalancingGeneration) || w.has(bugPreJoinGeneration) || w.has(bugNoFence) || w.has(bugCachedGeneration) {
		return nil
	}
	if err := f.refusal(ps.held); err != nil {
		return err
	}
	if !w.has(bugTermIgnored) && (f.n.member != ps.member || f.n.generation != ps.generation) {
		return errStale
	}
	return nil
}

// as is who the transaction is made as.
func (f *fence) as(ps pass) (string, int32) {
	n := f.n
	switch {
	case n.w.has(bugNoFence):
		return "", -1
	case n.w.has(bugRebalancingGeneration), n.w.has(bugTermIgnored):
		return n.member, n.generation
	case n.w.has(bugPreJoinGeneration):
		if n.member != ps.member || n.generation != ps.generation {
			return "", -1
		}
	case n.w.has(bugCachedGeneration):
		return n.firstMember, n.firstGeneration
	}
	return ps.member, ps.generation
}

func (f *fence) leave(ps pass) {
	for _, h := range ps.held {
		if f.open[h]--; f.open[h] <= 0 {
			delete(f.open, h)
		}
	}
	f.changed.broadcast()
}

// quiet waits until nothing is inside for these partitions.
func (f *fence) quiet(p *proc, list []held, deadline time.Duration) {
	for p.c.now < deadline {
		busy := false
		for _, h := range list {
			busy = busy || f.open[h] > 0
		}
		if !busy {
			return
		}
		f.changed.wait(p, deadline-p.c.now)
	}
}
