package gateway

import "github.com/evento-oss/evento/runtime"

// maxSuspects bounds functionLine.suspects; who is forgotten is suspected again soon enough.
const maxSuspects = 4096

// suspectMissed is called with mu held.
func (l *functionLine) suspectMissed(a runtime.AggregateID) {
	if _, there := l.suspects[a]; !there && len(l.suspects) >= maxSuspects {
		for other := range l.suspects {
			delete(l.suspects, other)
			break
		}
	}
	l.suspects[a]++
}

// suspectAtLeastOnce is suspectMissed for a call that was not lost: however often
// that happens, it is no reason to ask less and less often.
func (l *functionLine) suspectAtLeastOnce(a runtime.AggregateID) {
	if l.suspects[a] == 0 {
		l.suspectMissed(a)
	}
}

// spoiled notes that an aggregate's call was answered with what cannot be used.
func (l *functionLine) spoiled(a runtime.AggregateID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.suspectAtLeastOnce(a)
}

// lost notes that a call for an aggregate was not done in time.
func (l *functionLine) lost(a runtime.AggregateID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.suspectMissed(a)
}

// misses returns how often in a row calls for an aggregate were lost.
func (l *functionLine) misses(a runtime.AggregateID) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.suspects[a]
}
