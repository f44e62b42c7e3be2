//go:build crashpoints

package kafka

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/evento-oss/evento/internal/crash"
)

var _ kgo.HookBrokerWrite = (*wire)(nil)

// OnBrokerWrite is called by the client when a request is on the wire: there is
// no other place between the end of a transaction and its answer. Only programs
// with crash points have this hook.
func (w *wire) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if kmsg.Key(key) == kmsg.EndTxn && err == nil {
		crash.At(crash.TxnEnding)
	}
}
