/** The worker of `arrange`: ELK listens to messages as soon as it is loaded in one. */
import "elkjs/lib/elk-worker.min.js";
