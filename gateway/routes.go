package gateway

import (
	"context"
	"fmt"
	"strings"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/triggers"
)

// triggerRoutes lets the function caller and the HTTP face work with the
// Trigger router.
type triggerRoutes struct{ router *triggers.Router }

// Handler implements [FunctionRouter].
func (t triggerRoutes) Handler(command *runtime.Message) (FunctionTarget, error) {
	target, err := t.router.Handler(command)
	if err != nil {
		return FunctionTarget{}, err
	}
	return functionTarget(target), nil
}

// Aggregator implements [FunctionRouter].
func (t triggerRoutes) Aggregator(aggregate string) (FunctionTarget, error) {
	target, err := t.router.Aggregator(aggregate)
	if err != nil {
		return FunctionTarget{}, err
	}
	return functionTarget(target), nil
}

func functionTarget(t *triggers.Target) FunctionTarget {
	d := t.Delivery
	return FunctionTarget{
		Name: t.Name, URL: t.URL, CACerts: t.CACerts, Combined: t.Combined, Timeout: d.Timeout,
		Policy: shard.Policy{Attempts: d.Retry + 1, Delay: d.Delay, Linear: d.Linear, MaxDelay: d.MaxDelay, Park: d.Park},
	}
}

// Triggers implements [TriggerLister].
func (t triggerRoutes) Triggers(context.Context) ([]TriggerInfo, error) {
	targets, _ := t.router.All()
	list := make([]TriggerInfo, 0, len(targets))
	for _, target := range targets {
		roles := make([]string, len(target.Roles))
		for i, r := range target.Roles {
			roles[i] = string(r)
		}
		d := target.Delivery
		onFailure := "hold"
		if d.Park {
			onFailure = "park"
		}
		list = append(list, TriggerInfo{
			Name: target.Name, Role: strings.Join(roles, ","), Aggregate: target.Aggregate, Subscriber: target.URL, Source: target.From,
			Delivery: map[string]string{"retry": fmt.Sprint(d.Retry), "delay": d.Delay.String(), "max_delay": d.MaxDelay.String(), "timeout": d.Timeout.String(), "on_failure": onFailure},
		})
	}
	return list, nil
}
