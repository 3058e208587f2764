// Functions of fork.go are those of the runtime: this file lets them have no body.
