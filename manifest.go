package argus

// Manifest says what a batch of argusd ship holds, and what came before it. Manifests of one stream prove that nothing is
// missing: each writer's ranges follow one another, and so do the batches.
//
// Of a filtered stream the ranges are what was looked at, and the rows what of it the filter lets pass. So the ranges
// follow one another there too. Stream numbers the rows of any stream without holes; rows of a filtered one carry the number.
type Manifest struct {
	Sink     string          `json:"sink"`
	Batch    string          `json:"batch"`    // its name. The same name means the same rows, in the same order
	Previous string          `json:"previous"` // the batch before; "" for the first of a stream
	Ranges   []ManifestRange `json:"ranges"`   // ascending by writer, and one at most of each
	Rows     int64           `json:"rows"`
	SHA256   string          `json:"sha256"`   // of the rows as the format writes them, each with a newline
	Position string          `json:"position"` // after the batch, as Position.String writes it
	Format   string          `json:"format"`
	Filter   string          `json:"filter"` // as a query; "" for all rows
	Stream   ManifestStream  `json:"stream_seq"`
}

// ManifestRange is a writer's rows From to To, both included.
type ManifestRange struct {
	WriterID int64 `json:"writer_id"`
	From     int64 `json:"from"`
	To       int64 `json:"to"`
}

// ManifestStream are the numbers of a batch's rows in its stream, both included.
type ManifestStream struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}
