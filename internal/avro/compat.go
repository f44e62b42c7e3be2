package avro

import (
	"errors"
	"fmt"
	"slices"

	"github.com/evento-oss/evento/runtime"
	twmb "github.com/twmb/avro"
)

// CheckOption changes how [Catalogue.Check] decides.
type CheckOption func(*checkOptions)

type checkOptions struct{ backwardOnly bool }

// AllowBackwardOnly accepts events, failures and commands that readers of older
// versions cannot read, as after a rename by alias. It is for the case that
// every function and every outside reader was deployed anew before.
func AllowBackwardOnly() CheckOption { return func(o *checkOptions) { o.backwardOnly = true } }

// Check holds a schema file against everything that is registered and returns
// the types whose registration is needed, with their version numbers set: new
// ones and those whose text changed. None means that the file is registered
// already. The rules:
//
//   - Events, failures and commands can be read by all earlier versions, and read them
//     (Avro's FULL_TRANSITIVE), because events live for ever and functions are
//     deployed one by one.
//   - The root reads all earlier versions (BACKWARD_TRANSITIVE) since the last
//     one that says "rebuild", unless it says so itself.
//   - Nowhere may a field change its logical type, precision, scale or default,
//     or become a string from bytes; enums only grow at the end. A root that
//     says "rebuild" may.
//   - The kind of a name, the prefix of an entity, the target of a command and
//     the entity of an event never change; prefixes are unique in the installation.
//
// The error is a [*CompatError] with every breach. A type that is missing in
// the file stays registered.
func (c *Catalogue) Check(a *Aggregate, opts ...CheckOption) ([]*Type, error) {
	k := comparison{file: a.File, rebuild: a.Rebuild, now: c.now.Load()}
	for _, opt := range opts {
		opt(&k.options)
	}
	k.family = k.now.aggregates[a.Name]
	k.kinds(a)
	var changed []*Type
	for _, t := range a.Types {
		if t.Kind == KindValue {
			continue
		}
		fresh := *t
		var known []*version
		if k.family != nil {
			known = k.family.byName[t.Name]
		}
		fresh.Version = 1
		if len(known) > 0 {
			newest := known[len(known)-1]
			if newest.Text == t.Text {
				continue
			}
			fresh.Version = newest.Version + 1
			k.identity(&fresh, newest)
		}
		k.prefix(&fresh)
		if err := k.history(&fresh, known); err != nil {
			return nil, err
		}
		changed = append(changed, &fresh)
	}
	if len(k.problems) > 0 {
		return nil, &CompatError{Problems: k.problems}
	}
	return changed, nil
}

// comparison is the state of one Check.
type comparison struct {
	file     string
	rebuild  bool
	options  checkOptions
	now      *snapshot
	family   *family
	problems []Problem
}

func (k *comparison) report(p Problem) {
	p.File = k.file
	if !slices.Contains(k.problems, p) {
		k.problems = append(k.problems, p)
	}
}

// kinds checks that no name, values included, changes its kind.
func (k *comparison) kinds(a *Aggregate) {
	if k.family == nil {
		return
	}
	for _, t := range a.Types {
		if before, known := k.family.kinds[string(t.Name)]; known && before != t.Kind {
			k.report(Problem{
				Type: string(t.Name), Rule: "kind-changed",
				What: fmt.Sprintf("it is registered as %s and now is %s", before, t.Kind),
				Do:   "give the new type another name",
			})
		}
	}
}

// identity checks what a registered name keeps for ever.
func (k *comparison) identity(t *Type, before *version) {
	changed := func(rule, what, was, is, do string) {
		if was != is {
			k.report(Problem{Type: string(t.Name), Rule: rule, What: fmt.Sprintf("its %s changes from %q to %q", what, was, is), Do: do})
		}
	}
	changed("prefix-changed", "prefix", before.Prefix, t.Prefix, "keep the prefix: every recorded reference has it")
	if t.Kind == before.Kind {
		changed("target-changed", "target", string(before.Target), string(t.Target), "give the command for the other entity another name")
		changed("entity-changed", "entity", string(before.Entity), string(t.Entity), "give the event of the other entity another name")
	}
}

func (k *comparison) prefix(t *Type) {
	if owner, taken := k.now.prefixes[t.Prefix]; t.Prefix != "" && taken && owner != t.Name {
		k.report(Problem{
			Type: string(t.Name), Rule: "prefix-taken",
			What: fmt.Sprintf("the prefix %q belongs to %s", t.Prefix, owner),
			Do:   "choose another: references must tell aggregates apart",
		})
	}
}

// history compares a type with every registered version of it.
func (k *comparison) history(t *Type, known []*version) error {
	if len(known) == 0 || t.Kind == KindEntity || t.Kind == KindRoot && k.rebuild {
		// An entity is only ever written inside its root, and compared there.
		return nil
	}
	parsed, err := twmb.Parse(t.Text)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	// Versions before these need not be read, or need not be able to read.
	firstRead, firstReader := 0, 0
	for _, v := range known {
		if v.Rebuild {
			firstRead = v.Version
		}
		if v.BackwardOnly {
			firstReader = v.Version
		}
	}
	for _, v := range known {
		if v.Version < firstRead {
			continue
		}
		if err := twmb.CheckCompatibility(v.parsed, parsed); err != nil {
			do := "give new fields a default, keep types, or make a new event type beside this one"
			if t.Kind == KindRoot {
				do = `give new fields a default, or say "rebuild": true at the root to drop snapshots and replay events`
			}
			k.incompatible(t, "backward", fmt.Sprintf("it cannot read what version %d wrote", v.Version), err, do)
		}
		k.meaning(t, v)
		if t.Kind == KindRoot || v.Version < firstReader {
			continue
		}
		if err := twmb.CheckCompatibility(parsed, v.parsed); err != nil {
			if k.options.backwardOnly {
				t.BackwardOnly = true
				continue
			}
			k.incompatible(t, "forward", fmt.Sprintf("functions built with version %d cannot read what it writes", v.Version), err,
				"keep the old field and add a new one with a default; or deploy all readers first and allow backward only")
		}
	}
	return nil
}

func (k *comparison) incompatible(t *Type, rule, what string, err error, do string) {
	p := Problem{Type: string(t.Name), Rule: rule, What: what, Do: do}
	var detail *twmb.CompatibilityError
	if errors.As(err, &detail) {
		p.Field = detail.Path
		p.What += ": " + detail.Detail
		if detail.ReaderType != "" && detail.WriterType != "" {
			p.What += fmt.Sprintf(" (reads %s, written %s)", detail.ReaderType, detail.WriterType)
		}
	} else {
		p.What += ": " + err.Error()
	}
	k.report(p)
}

// meaning applies the rules that keep recorded bytes from changing their
// meaning, which Avro's compatibility does not look at.
func (k *comparison) meaning(t *Type, old *version) {
	type pair [2]*shape
	seen := map[pair]bool{}
	var walk func(was, is *shape, path string)
	walk = func(was, is *shape, path string) {
		if was == nil || is == nil || seen[pair{was, is}] {
			return
		}
		seen[pair{was, is}] = true
		// A field that becomes nullable, or stops being, is Avro's matter.
		if was.form == formOptional && is.form != formOptional {
			walk(was.elem, is, path)
			return
		}
		if is.form == formOptional && was.form != formOptional {
			walk(was, is.elem, path)
			return
		}
		if was.logical != is.logical || was.precision != is.precision || was.scale != is.scale {
			k.report(Problem{
				Type: string(t.Name), Field: path, Rule: "logical-type-changed",
				What: fmt.Sprintf("%s in version %d is now %s", describeLogical(was), old.Version, describeLogical(is)),
				Do:   "add a new field: recorded values would change their meaning",
			})
		}
		switch {
		case was.form == formRecord && is.form == formRecord:
			k.meaningOfFields(t, old, was, is, path, walk)
		case was.form == formEnum && is.form == formEnum:
			if len(is.symbols) < len(was.symbols) || !slices.Equal(is.symbols[:len(was.symbols)], was.symbols) {
				k.report(Problem{
					Type: string(t.Name), Field: path, Rule: "enum-append-only",
					What: fmt.Sprintf("%s was %v in version %d and is %v", is.name, was.symbols, old.Version, is.symbols),
					Do:   "keep all symbols in their order and add new ones at the end",
				})
			}
		case was.form == formBytes && is.form == formString, was.form == formString && is.form == formBytes && t.Kind != KindRoot:
			// Avro lets each be read as the other, and fails on the first value that is no text.
			k.report(Problem{
				Type: string(t.Name), Field: path, Rule: "bytes-as-string",
				What: fmt.Sprintf("%s in version %d is now %s, and bytes that are not UTF-8 cannot be read as a string", was.name, old.Version, is.name),
				Do:   "add a new field",
			})
		case was.form == is.form:
			walk(was.elem, is.elem, path)
		}
	}
	walk(old.shape, t.shape, "")
}

func (k *comparison) meaningOfFields(t *Type, old *version, was, is *shape, path string, walk func(was, is *shape, path string)) {
	for i := range is.fields {
		f := &is.fields[i]
		from, ok := was.index[f.name]
		for a := 0; !ok && a < len(f.aliases); a++ {
			from, ok = was.index[f.aliases[a]]
		}
		if !ok {
			continue
		}
		at := f.name
		if path != "" {
			at = path + "." + f.name
		}
		before := &was.fields[from]
		if before.preset != nil && f.preset != nil && !samePreset(before, f) {
			k.report(Problem{
				Type: string(t.Name), Field: at, Rule: "default-changed",
				What: fmt.Sprintf("its default is not that of version %d", old.Version),
				Do:   "keep the default: values recorded before the field existed are read with it",
			})
		}
		walk(before.shape, f.shape, at)
	}
}

// samePreset says whether a field's default is still the same value; its bytes
// may differ, as when a record in it has got a field.
func samePreset(was, is *field) bool {
	r := resolver{made: map[[2]*shape]*conversion{}}
	conv, err := r.conversion(was.shape, is.shape)
	if err != nil {
		return true // incompatible, and reported as that
	}
	t := transcoder{b: was.preset}
	now, _ := t.run(nil, conv, 0)
	return slices.Equal(now, is.preset)
}

func describeLogical(s *shape) string {
	switch {
	case s.logical == "decimal":
		return fmt.Sprintf("decimal(%d,%d)", s.precision, s.scale)
	case s.logical != "":
		return s.logical
	}
	return "plain " + s.name
}

// Missing returns the registered types of an aggregate that a file no longer
// has. They stay registered; the list is for people.
func (c *Catalogue) Missing(a *Aggregate) []runtime.TypeName {
	var names []runtime.TypeName
	f := c.family(a.Name)
	if f == nil {
		return nil
	}
	for name := range f.newest {
		if _, ok := a.Type(string(name)); !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
