package expr

import (
	"fmt"
	"math/big"
	"strings"
	"unicode/utf8"
)

// Division says what 7/2 is.
type Division int

// Python 3 is the zero Division.
const (
	DivisionTrue  Division = 0 // 7/2 is 3.5
	DivisionFloor Division = 2 // 7/2 is 3, as in Python 2
)

// evaluator computes one $eval.
type evaluator struct {
	*budget
	division Division
	// dividedInts notes that "/" stood between integers, which Python 2 and 3
	// answer differently.
	dividedInts bool
	// visit, when set, is told the value of every operation.
	visit func(n *node, v Value, err error)
}

// Eval evaluates a Python expression (without $phrases) within the limits of
// one expansion.
func Eval(text string, division Division) (Value, error) {
	ev := evaluator{budget: newBudget(), division: division}
	return ev.eval(text)
}

func (ev *evaluator) eval(text string) (Value, error) {
	n, err := parsePython(text)
	if err != nil {
		return nil, err
	}
	return ev.run(n)
}

// run computes a node and everything below it.
func (ev *evaluator) run(n *node) (Value, error) {
	if err := ev.step(); err != nil {
		return nil, err
	}
	if n.op == opLiteral {
		return n.value, nil
	}
	v, err := ev.apply(n)
	if ev.visit != nil {
		ev.visit(n, v, err)
	}
	return v, err
}

func (ev *evaluator) apply(n *node) (Value, error) {
	switch n.op {
	case "and", "or":
		left, err := ev.run(n.kids[0])
		if err != nil || isTrue(left) == (n.op == "or") {
			return left, err
		}
		return ev.run(n.kids[1])
	case opIf:
		condition, err := ev.run(n.kids[0])
		if err != nil {
			return nil, err
		}
		if isTrue(condition) {
			return ev.run(n.kids[1])
		}
		return ev.run(n.kids[2])
	case opCompare:
		return ev.compareChain(n)
	}
	args := make([]Value, len(n.kids))
	for i, kid := range n.kids {
		if kid == nil {
			continue
		}
		var err error
		if args[i], err = ev.run(kid); err != nil {
			return nil, err
		}
	}
	switch n.op {
	case opList:
		return List(args), nil
	case opTuple:
		return Tuple(args), nil
	case opDict:
		return makeDict(args)
	case opCall:
		return ev.call(n.name, args)
	case opIndex:
		return index(args[0], args[1])
	case opSlice:
		return ev.slice(args)
	case "not":
		return !isTrue(args[0]), nil
	case opNegative, opPositive, "~":
		return unary(n.op, args[0])
	}
	return ev.binary(n.op, args[0], args[1])
}

// compareChain evaluates a < b < c, each operand once and only as far as
// needed.
func (ev *evaluator) compareChain(n *node) (Value, error) {
	left, err := ev.run(n.kids[0])
	for i := 0; err == nil && i < len(n.ops); i++ {
		var right Value
		if right, err = ev.run(n.kids[i+1]); err != nil {
			break
		}
		var holds bool
		if holds, err = ev.compare(n.ops[i], left, right); err != nil || !holds {
			return false, err
		}
		left = right
	}
	return true, err
}

func (ev *evaluator) compare(op string, a, b Value) (bool, error) {
	switch op {
	case "==", "!=":
		equal, err := ev.equal(a, b)
		return equal == (op == "=="), err
	case "in", "not in":
		in, err := ev.contains(b, a)
		return in == (op == "in"), err
	}
	if isNaN(a) || isNaN(b) {
		return false, nil
	}
	c, err := ev.order(op, a, b)
	switch op {
	case "<":
		return c < 0, err
	case "<=":
		return c <= 0, err
	case ">":
		return c > 0, err
	}
	return c >= 0, err
}

// equal is Python's ==: values of different types differ, numbers compare by
// value.
func (ev *evaluator) equal(a, b Value) (bool, error) {
	if err := ev.step(); err != nil {
		return false, err
	}
	if isNumber(a) && isNumber(b) {
		return !isNaN(a) && !isNaN(b) && compareNumbers(a, b) == 0, nil
	}
	switch a := a.(type) {
	case nil:
		return b == nil, nil
	case string:
		s, ok := b.(string)
		return ok && a == s, nil
	case List:
		l, ok := b.(List)
		return ev.equalItems(a, l, ok)
	case Tuple:
		t, ok := b.(Tuple)
		return ev.equalItems(a, t, ok)
	case *Dict:
		d, ok := b.(*Dict)
		if !ok || len(d.Keys) != len(a.Keys) {
			return false, nil
		}
		for i, key := range a.Keys {
			other, found := d.Find(key)
			if !found {
				return false, nil
			}
			if same, err := ev.equal(a.Values[i], other); err != nil || !same {
				return false, err
			}
		}
		return true, nil
	}
	return false, nil
}

func (ev *evaluator) equalItems(a, b []Value, sameType bool) (bool, error) {
	if !sameType || len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		if same, err := ev.equal(a[i], b[i]); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// order compares two values of one kind; neither is a NaN.
func (ev *evaluator) order(op string, a, b Value) (int, error) {
	if err := ev.step(); err != nil {
		return 0, err
	}
	if isNumber(a) && isNumber(b) {
		return compareNumbers(a, b), nil
	}
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			return strings.Compare(x, y), nil
		}
	case List:
		if y, ok := b.(List); ok {
			return ev.orderItems(op, x, y)
		}
	case Tuple:
		if y, ok := b.(Tuple); ok {
			return ev.orderItems(op, x, y)
		}
	}
	return 0, fmt.Errorf("%s %s %s: cannot be ordered", typeName(a), op, typeName(b))
}

func (ev *evaluator) orderItems(op string, a, b []Value) (int, error) {
	for i := range min(len(a), len(b)) {
		same, err := ev.equal(a[i], b[i])
		if err != nil {
			return 0, err
		}
		if !same {
			return ev.order(op, a[i], b[i])
		}
	}
	return len(a) - len(b), nil
}

// contains is Python's item in container.
func (ev *evaluator) contains(container, item Value) (bool, error) {
	switch c := container.(type) {
	case string:
		if s, ok := item.(string); ok {
			return strings.Contains(c, s), ev.bytes(len(c))
		}
		return false, fmt.Errorf("%s in str: only text can be in text", typeName(item))
	case *Dict:
		key, ok := item.(string)
		_, found := c.Find(key)
		return ok && found, nil
	}
	items, ok := itemsOf(container)
	if !ok {
		return false, fmt.Errorf("nothing can be in %s", typeName(container))
	}
	for _, candidate := range items {
		if same, err := ev.equal(candidate, item); err != nil || same {
			return same, err
		}
	}
	return false, nil
}

// itemsOf returns the items of a list or tuple.
func itemsOf(v Value) ([]Value, bool) {
	switch v := v.(type) {
	case List:
		return v, true
	case Tuple:
		return v, true
	}
	return nil, false
}

// iterate returns the items a function walks over: of a list or tuple, the
// characters of a text, the keys of a dict.
func (ev *evaluator) iterate(v Value) ([]Value, error) {
	if items, ok := itemsOf(v); ok {
		return items, ev.spend(len(items))
	}
	var items []Value
	switch v := v.(type) {
	case string:
		if err := ev.spend(len(v)); err != nil {
			return nil, err
		}
		for _, r := range v {
			items = append(items, string(r))
		}
	case *Dict:
		for _, key := range v.Keys {
			items = append(items, key)
		}
	default:
		return nil, fmt.Errorf("%s is not a list", typeName(v))
	}
	return items, nil
}

func makeDict(args []Value) (Value, error) {
	d := &Dict{}
	seen := make(map[string]int, len(args)/2)
	for i := 0; i < len(args); i += 2 {
		key, ok := args[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict key %s: keys are texts", pyRepr(args[i]))
		}
		if at, again := seen[key]; again {
			d.Values[at] = args[i+1]
			continue
		}
		seen[key] = len(d.Keys)
		d.Keys, d.Values = append(d.Keys, key), append(d.Values, args[i+1])
	}
	return d, nil
}

// index is Python's v[key].
func index(v, key Value) (Value, error) {
	if d, ok := v.(*Dict); ok {
		if k, ok := key.(string); ok {
			if found, ok := d.Find(k); ok {
				return found, nil
			}
		}
		return nil, fmt.Errorf("the dict has no key %s", pyRepr(key))
	}
	i, isInt := asInt(key)
	if !isInt {
		return nil, fmt.Errorf("%s[%s]: the index is not an integer", typeName(v), typeName(key))
	}
	switch v := v.(type) {
	case string:
		at, ok := position(i, utf8.RuneCountInString(v))
		if !ok {
			return nil, fmt.Errorf("index %s is outside a text of %d characters", i, utf8.RuneCountInString(v))
		}
		for _, r := range v {
			if at--; at < 0 {
				return string(r), nil
			}
		}
	case List, Tuple:
		items, _ := itemsOf(v)
		at, ok := position(i, len(items))
		if !ok {
			return nil, fmt.Errorf("index %s is outside a %s of %d", i, typeName(v), len(items))
		}
		return items[at], nil
	}
	return nil, fmt.Errorf("%s has no items", typeName(v))
}

// position turns an index, negative from the end, into an offset below n.
func position(i *big.Int, n int) (int, bool) {
	if !i.IsInt64() {
		return 0, false
	}
	at := i.Int64()
	if at < 0 {
		at += int64(n)
	}
	return int(at), at >= 0 && at < int64(n)
}

// slice is Python's v[from:to:step].
func (ev *evaluator) slice(args []Value) (Value, error) {
	var runes []rune
	n := 0
	text, isText := args[0].(string)
	items, isItems := itemsOf(args[0])
	switch {
	case isText:
		runes = []rune(text)
		n = len(runes)
	case isItems:
		n = len(items)
	default:
		return nil, fmt.Errorf("%s cannot be sliced", typeName(args[0]))
	}
	from, to, step, err := sliceBounds(args[1], args[2], args[3], n)
	if err != nil {
		return nil, err
	}
	var picked []Value
	var b strings.Builder
	for at := from; step > 0 && at < to || step < 0 && at > to; at += step {
		if isText {
			b.WriteRune(runes[at])
		} else {
			picked = append(picked, items[at])
		}
	}
	if err := ev.spend(len(picked) + b.Len()/bytesPerStep); err != nil {
		return nil, err
	}
	switch args[0].(type) {
	case string:
		return b.String(), nil
	case Tuple:
		return Tuple(picked), nil
	}
	return List(picked), nil
}

// sliceBounds resolves a slice's three numbers against a length: the offsets
// from (included) and to (excluded) and a step that is not zero.
func sliceBounds(fromV, toV, stepV Value, n int) (from, to, step int, err error) {
	step = 1
	if stepV != nil {
		// A step beyond the length reaches only the first item.
		if step, err = clampInt(stepV, -n-1, n+1); err != nil {
			return 0, 0, 0, err
		}
		if step == 0 {
			return 0, 0, 0, fmt.Errorf("the step of a slice is zero")
		}
	}
	low, high := 0, n
	from, to = 0, n
	if step < 0 {
		low, high = -1, n-1
		from, to = n-1, -1
	}
	resolve := func(v Value, silence int) (int, error) {
		if v == nil {
			return silence, nil
		}
		at, err := clampInt(v, -n-1, n+1)
		if at < 0 {
			at += n
		}
		return min(max(at, low), high), err
	}
	if from, err = resolve(fromV, from); err == nil {
		to, err = resolve(toV, to)
	}
	return from, to, step, err
}

// clampInt returns the integer v, moved into low…high.
func clampInt(v Value, low, high int) (int, error) {
	i, ok := asInt(v)
	if !ok {
		return 0, fmt.Errorf("%s where an integer is needed", typeName(v))
	}
	switch {
	case i.Cmp(big.NewInt(int64(low))) < 0:
		return low, nil
	case i.Cmp(big.NewInt(int64(high))) > 0:
		return high, nil
	}
	return int(i.Int64()), nil
}
