package proof

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// offsetFaults are what operators and tools do to the committed offsets of the
// gateways and of dispatchers. Kafka allows it when a group has no members, so all
// gateways are killed first, at work.
func offsetFaults() []fault {
	type change func(*trial, context.Context, *kadm.Client, string, kadm.OffsetResponses) error
	var list []fault
	for _, f := range []struct {
		name, does string
		ci         bool
		change     change
	}{
		{"offsets-deleted", "all gateways are killed, and the committed offsets of all groups deleted", false,
			func(_ *trial, ctx context.Context, a *kadm.Client, group string, had kadm.OffsetResponses) error {
				answers, err := a.DeleteOffsets(ctx, group, had.Offsets().TopicsSet())
				if err == nil {
					err = answers.Error()
				}
				return err
			}},
		{"offsets-earliest", "all gateways are killed, and all groups reset to the beginning", false,
			func(tr *trial, ctx context.Context, a *kadm.Client, group string, had kadm.OffsetResponses) error {
				starts, err := a.ListStartOffsets(ctx, had.Offsets().TopicsSet().Topics()...)
				if err != nil {
					return err
				}
				return commitOffsets(ctx, a, group, starts.Offsets())
			}},
		{"offsets-end", "all gateways are killed, and all groups reset to the end", true,
			func(tr *trial, ctx context.Context, a *kadm.Client, group string, had kadm.OffsetResponses) error {
				ends, err := a.ListEndOffsets(ctx, had.Offsets().TopicsSet().Topics()...)
				if err != nil {
					return err
				}
				return commitOffsets(ctx, a, group, ends.Offsets())
			}},
		{"offsets-nonsense", "all gateways are killed, and offsets and metadata of all groups replaced by nonsense", false,
			func(tr *trial, ctx context.Context, a *kadm.Client, group string, had kadm.OffsetResponses) error {
				random := rand.New(rand.NewPCG(tr.seed, 66))
				var changed kadm.Offsets
				before := ""
				had.Offsets().Each(func(o kadm.Offset) {
					mine := o.Metadata
					switch random.IntN(6) {
					case 0:
						o.Metadata = strings.Repeat("nonsense ", 400)
					case 1:
						o.Metadata = strings.ToUpper(o.Metadata)
					case 2:
						o.Metadata = before // another partition's
					case 3:
						o.At = random.Int64N(o.At + 2)
					case 4:
						o.At += 1_000_000
					case 5:
						o.Metadata = "e1 c 0 0"
					}
					before = mine
					changed.Add(o)
				})
				return commitOffsets(ctx, a, group, changed)
			}},
	} {
		list = append(list, fault{
			name: f.name, does: f.does + ", then they are started again", ci: f.ci, may: []string{noAnswer, lateAnswer, "503"},
			needs:  needs{ground: oneBroker, circle: true},
			inject: func(tr *trial) { tr.changeOffsets(f.change) },
		})
	}
	return list
}

func commitOffsets(ctx context.Context, a *kadm.Client, group string, offsets kadm.Offsets) error {
	answers, err := a.CommitOffsets(ctx, group, offsets)
	if err == nil {
		err = answers.Error()
	}
	return err
}

// changeOffsets kills all gateways, changes what each group of theirs has
// committed, and starts them again.
func (tr *trial) changeOffsets(change func(*trial, context.Context, *kadm.Client, string, kadm.OffsetResponses) error) {
	for i := range tr.world.gateways {
		tr.gateway(i).now().kill()
	}
	began := time.Now()
	groups := tr.awaitGroups("Empty", 0)
	partitions := 0
	for _, group := range groups {
		tr.ground.brokers.admin(tr, func(ctx context.Context, a *kadm.Client) error {
			had, err := a.FetchOffsets(ctx, group)
			if err != nil || len(had) == 0 {
				return err
			}
			had.Each(func(kadm.OffsetResponse) { partitions++ })
			return change(tr, ctx, a, group, had)
		})
	}
	if partitions < 8 {
		tr.Fatalf("only %d offsets were committed", partitions)
	}
	tr.Logf("%d offsets of %d groups were changed after %v", partitions, len(groups), ago(began))
	for i := range tr.world.gateways {
		tr.gateway(i).start(tr)
	}
	for i := range tr.world.gateways {
		tr.gateway(i).awaitReady(tr)
	}
}
