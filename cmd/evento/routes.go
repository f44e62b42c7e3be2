package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/evento-oss/evento/gateway"
	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/triggers"
)

// triggerRoutes lets the gateway work with the Trigger router: neither package
// knows the other.
type triggerRoutes struct{ *triggers.Router }

// routesFrom makes the routes of a gateway from where Triggers are declared.
func routesFrom(sources []triggers.Source, log *slog.Logger) func(gateway.CommandTypes) gateway.Routes {
	return func(types gateway.CommandTypes) gateway.Routes {
		return triggerRoutes{triggers.NewRouter(triggers.Config{Sources: sources, Types: types, Log: log})}
	}
}

// Handler implements [gateway.FunctionRouter].
func (t triggerRoutes) Handler(command *runtime.Message) (gateway.FunctionTarget, error) {
	target, err := t.Router.Handler(command)
	if err != nil {
		return gateway.FunctionTarget{}, err
	}
	return functionTarget(target), nil
}

// Aggregator implements [gateway.FunctionRouter].
func (t triggerRoutes) Aggregator(aggregate string) (gateway.FunctionTarget, error) {
	target, err := t.Router.Aggregator(aggregate)
	if err != nil {
		return gateway.FunctionTarget{}, err
	}
	return functionTarget(target), nil
}

func functionTarget(t *triggers.Target) gateway.FunctionTarget {
	d := t.Delivery
	return gateway.FunctionTarget{
		Name: t.Name, URL: t.URL, CACerts: t.CACerts, Combined: t.Combined, Timeout: d.Timeout,
		Policy: shard.Policy{Attempts: d.Retry + 1, Delay: d.Delay, Linear: d.Linear, MaxDelay: d.MaxDelay, Park: d.Park},
	}
}

// Triggers implements [gateway.TriggerLister].
func (t triggerRoutes) Triggers(context.Context) ([]gateway.TriggerInfo, error) {
	targets, _ := t.Router.All()
	list := make([]gateway.TriggerInfo, 0, len(targets))
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
		list = append(list, gateway.TriggerInfo{
			Name: target.Name, Role: strings.Join(roles, ","), Aggregate: target.Aggregate, Subscriber: target.URL, Source: target.From,
			Delivery: map[string]string{"retry": fmt.Sprint(d.Retry), "delay": d.Delay.String(), "max_delay": d.MaxDelay.String(), "timeout": d.Timeout.String(), "on_failure": onFailure},
		})
	}
	return list, nil
}
