package main

import "github.com/go-json-experiment/json"

// unmarshal reads JSON into v. A key counts only as it is written, and one given twice is an error, as every other
// reader of the same text sees it; encoding/json folds case. Unknown keys are ignored: a newer server may send them.
func unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }
