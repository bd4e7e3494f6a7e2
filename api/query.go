package api

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/useargus/argus"
)

// one returns a query parameter that may be given once, "" when it is absent.
func one(q url.Values, name string) (string, error) {
	switch values := q[name]; len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	default:
		return "", argus.Errorf(argus.CodeInvalidParameter, "Give %s once.", name)
	}
}

// orderOf reads order=asc|desc.
func orderOf(q url.Values, ascending bool) (bool, error) {
	s, err := one(q, "order")
	switch {
	case err != nil:
		return false, err
	case s == "":
		return ascending, nil
	case s == "asc", s == "desc":
		return s == "asc", nil
	}
	return false, argus.Errorf(argus.CodeInvalidParameter, "order must be asc or desc.")
}

// numberOf reads a whole number from 1 to limit, 0 when it is absent.
func numberOf(q url.Values, name string, limit int) (int, error) {
	s, err := one(q, name)
	if s == "" || err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > limit {
		return 0, argus.Errorf(argus.CodeInvalidParameter, "%s must be a whole number from 1 to %d.", name, limit)
	}
	return n, nil
}

// boolOf reads true or false, false when it is absent.
func boolOf(q url.Values, name string) (bool, error) {
	s, err := one(q, name)
	switch {
	case err != nil:
		return false, err
	case s == "" || s == "false":
		return false, nil
	case s == "true":
		return true, nil
	}
	return false, argus.Errorf(argus.CodeInvalidParameter, "%s must be true or false.", name)
}

// bucketOf reads the width of a chart's buckets, 0 when the server is to choose.
func bucketOf(q url.Values) (time.Duration, error) {
	s, err := one(q, "step")
	if s == "" || err != nil {
		return 0, err
	}
	d, err := argus.ParseDuration(s)
	if err == nil && (d < time.Minute || d%time.Minute != 0) {
		err = argus.Errorf(argus.CodeInvalidParameter, "step must be whole minutes.")
	}
	return d, err
}

// groupOf reads group_by; allowed empties included.
func groupOf(q url.Values) (argus.GroupBy, error) {
	return oneOf(q, "group_by", argus.GroupBys())
}

// oneOf reads a word of a list, "" when it is absent.
func oneOf[T ~string](q url.Values, name string, words []T) (T, error) {
	s, err := one(q, name)
	if err == nil && s != "" && !slices.Contains(words, T(s)) {
		err = argus.Errorf(argus.CodeInvalidParameter, "%s must be %s.", name, argus.Listed(words, "or"))
	}
	return T(s), err
}

// fieldsOf reads fields=actor,route, repeated or separated by commas; nil means all.
func fieldsOf(q url.Values) ([]argus.FilterName, error) {
	var fields []argus.FilterName
	for _, list := range q["fields"] {
		for name := range strings.SplitSeq(list, ",") {
			f := argus.FilterName(name)
			if !slices.Contains(argus.FacetFields(), f) {
				return nil, argus.Errorf(argus.CodeInvalidParameter, "There is no facet %q. There are %s.", argus.Text(name, 40),
					argus.Listed(argus.FacetFields(), "and"))
			}
			if !slices.Contains(fields, f) {
				fields = append(fields, f)
			}
		}
	}
	return fields, nil
}
