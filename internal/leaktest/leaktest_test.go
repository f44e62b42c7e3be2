package leaktest

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestALeakIsFound(t *testing.T) {
	others := goleak.IgnoreCurrent()
	None(t, others)
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		<-end
	}()
	if find(time.Millisecond, others) == nil {
		t.Error("a goroutine that waits for ever is not found")
	}
	// One that ends late is no leak: goleak alone has given up by then.
	time.AfterFunc(time.Second, func() { close(end) })
	None(t, others)
	<-ended
}
