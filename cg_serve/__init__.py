"""The service: detector and interpreter behind one HTTP interface. Only `cg_serve.app` knows Ray."""
