package replicator

// failpoint marks a point between two steps of the way of a batch. Tests kill the process there.
var failpoint = func(string) {}
