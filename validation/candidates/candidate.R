# A candidate in R, with jsonlite alone: whole tables over all codes as matrices, gradients by hand.
#
#     refvlm conform -- Rscript validation/candidates/candidate.R [--wrong]
#
# Shallow models; deep ones are answered with "unsupported". --wrong fills weights column by column, as matrix() does
# unless it is told otherwise.

library(jsonlite)

arguments <- commandArgs(trailingOnly = TRUE)
WRONG <- identical(arguments, "--wrong")
if (length(arguments) > WRONG) stop("usage: candidate.R [--wrong]")

# Tensors: R fills matrices column by column, the protocol row by row ---------------------------------------------------

decode <- function(tensor, byrow = TRUE) {
  digits <- outer(unlist(tensor$f64), 2 * (1:8), function(text, end) substring(text, end - 1, end))
  bytes <- as.raw(strtoi(t(digits), 16L))
  numbers <- readBin(bytes, "double", length(tensor$f64), endian = "big")
  shape <- unlist(tensor$shape)
  if (length(shape) == 2) matrix(numbers, shape[1], shape[2], byrow = byrow) else numbers
}

encode <- function(value) {
  shape <- if (is.matrix(value)) dim(value) else length(value)
  bytes <- writeBin(as.double(if (is.matrix(value)) t(value) else value), raw(), endian = "big")
  digits <- matrix(toupper(as.character(bytes)), ncol = 8, byrow = TRUE)
  list(shape = I(shape), f64 = I(do.call(paste0, as.data.frame(digits))))
}

refuse <- function(code, what) {
  stop(structure(class = c("refusal", "error", "condition"), list(message = what, call = NULL, code = code)))
}
want <- function(sound, what, code = "shape") if (!isTRUE(sound)) refuse(code, what)

# Bernoulli units and networks --------------------------------------------------------------------------------------------

sigmoid <- function(a) {
  small <- exp(-abs(a))
  ifelse(a >= 0, 1, small) / (1 + small)
}
softplus <- function(a) pmax(a, 0) + log1p(exp(-abs(a)))

# log p of each row of bits under its own row of logits; logits may be infinite.
log_bernoulli <- function(bits, logits) rowSums(-softplus(ifelse(bits == 1, -logits, logits)))

# log p of every row of bits under every row of logits, which are finite: (rows of logits, rows of bits).
log_bernoulli_table <- function(logits, bits) -softplus(-logits) %*% t(bits) - softplus(logits) %*% t(1 - bits)

# sum of weights * (bit - sigmoid(logit)) without a difference of numbers near 1; on, off: the weights of bits 1 and 0.
delta <- function(on, off, logits) on * sigmoid(-logits) - off * sigmoid(logits)

activate <- list(tanh = tanh, relu = function(a) pmax(a, 0), sigmoid = sigmoid)
slope <- list(tanh = function(h) 1 - h^2, relu = function(h) (h > 0) * 1, sigmoid = function(h) h * (1 - h))

plus_each <- function(rows, vector) rows + rep(vector, each = nrow(rows))

read_net <- function(network, prefix) {
  want(network$activation %in% names(activate), "activation", "unsupported")
  net <- list(weights = list(), biases = list(), activation = network$activation)
  repeat {
    d <- length(net$weights)
    w <- network$parameters[[paste0(prefix, "weights.", d)]]
    if (is.null(w)) break
    b <- network$parameters[[paste0(prefix, "biases.", d)]]
    w <- decode(w, byrow = !WRONG)
    want(is.matrix(w) && !is.null(b), prefix)
    b <- decode(b)
    want(!is.matrix(b) && length(b) == ncol(w) && (d == 0 || ncol(net$weights[[d]]) == nrow(w)), prefix)
    net$weights[[d + 1]] <- w
    net$biases[[d + 1]] <- b
  }
  want(d > 0, prefix)
  net
}
fan_in <- function(net) nrow(net$weights[[1]])
fan_out <- function(net) length(net$biases[[length(net$biases)]])
finite <- function(net) all(is.finite(unlist(c(net$weights, net$biases))))

# What enters each layer, and last the logits; one row for each row of inputs.
forward <- function(net, inputs) {
  layers <- list(inputs)
  for (d in seq_along(net$weights)) {
    a <- plus_each(layers[[d]] %*% net$weights[[d]], net$biases[[d]])
    layers[[d + 1]] <- if (d < length(net$weights)) activate[[net$activation]](a) else a
  }
  layers
}
logits_of <- function(net, inputs) forward(net, inputs)[[length(net$weights) + 1]]

# The gradient in the parameters, as a net, from the slopes of the logits.
backward <- function(net, layers, slopes) {
  gradient <- net
  for (d in rev(seq_along(net$weights))) {
    gradient$weights[[d]] <- t(layers[[d]]) %*% slopes
    gradient$biases[[d]] <- colSums(slopes)
    if (d > 1) slopes <- (slopes %*% t(net$weights[[d]])) * slope[[net$activation]](layers[[d]])
  }
  gradient
}

moved <- function(net, gradient, rate) {
  step <- function(value, by) value + rate * by
  net$weights <- Map(step, net$weights, gradient$weights)
  net$biases <- Map(step, net$biases, gradient$biases)
  net
}

named <- function(net, prefix) {
  place <- seq_along(net$weights) - 1
  c(
    setNames(net$weights, paste0(prefix, "weights.", place)),
    setNames(net$biases, paste0(prefix, "biases.", place))
  )
}
of_model <- function(beta, decoder, prefix = "") {
  c(setNames(list(beta), paste0(prefix, "prior.logits")), named(decoder, paste0(prefix, "decoder.")))
}

# The question ------------------------------------------------------------------------------------------------------------

pairs <- c("log_prior", "log_likelihood", "log_joint")
recognising <- c("vlb", "vlb_terms", "kl", "grad_vlb", "wake_step", "sleep_step")

# Shapes first, then what the numbers may be.
read_question <- function(message) {
  parameters <- message$model$parameters
  if (is.null(parameters$prior.logits)) refuse("unsupported", "deep models")
  q <- list(beta = decode(parameters$prior.logits), decoder = read_net(message$model, "decoder."))
  want(!is.matrix(q$beta) && length(q$beta) == fan_in(q$decoder), "prior.logits")
  if (message$quantity %in% recognising) {
    q$encoder <- read_net(message$posterior, "encoder.")
    want(fan_in(q$encoder) == fan_out(q$decoder) && fan_out(q$encoder) == length(q$beta), "encoder")
  }
  inputs <- lapply(message$inputs, decode)
  rows <- inputs[setdiff(names(inputs), "learning_rate")]
  for (name in names(rows)) {
    columns <- if (grepl("z", name)) length(q$beta) else fan_out(q$decoder)
    want(is.matrix(rows[[name]]) && ncol(rows[[name]]) == columns, name)
  }
  want(length(unique(vapply(rows, nrow, 0L))) == 1, "rows")
  want(finite(q$decoder), "decoder", "domain")
  want(!anyNA(q$beta), "prior.logits", "domain")
  if (!is.null(q$encoder)) want(finite(q$encoder), "encoder", "domain")
  for (name in names(rows)) {
    value <- rows[[name]]
    sound <- if (name %in% c("x", "z")) value == 0 | value == 1 else value >= 0 & value < 1
    want(all(sound), name, "domain")
  }
  c(q, inputs)
}

# Every code: row c + 1 is z_k = (c >> k) & 1.
codes <- function(latents) {
  c <- seq_len(2^latents) - 1
  vapply(seq_len(latents) - 1, function(k) (c %/% 2^k) %% 2, c * 1)
}

each_row <- function(vector, rows) matrix(vector, rows, length(vector), byrow = TRUE)
log_prior <- function(z, beta) log_bernoulli(z, each_row(beta, nrow(z)))

# The gradient of the sum of weights (N, codes) times log p(x, z).
grad_joint <- function(q, table, weights) {
  slopes <- delta(t(weights) %*% q$x, t(weights) %*% (1 - q$x), table$logits)
  mass <- colSums(weights)
  beta <- delta(drop(mass %*% table$z), drop(mass %*% (1 - table$z)), q$beta)
  list(beta = ifelse(is.finite(q$beta), beta, 0), decoder = backward(q$decoder, table$layers, slopes))
}

times <- function(weight, value) ifelse(weight > 0, weight * value, 0) # 0 log 0 = 0

of_table <- function(q, quantity) {
  z <- codes(length(q$beta))
  layers <- forward(q$decoder, z)
  table <- list(z = z, layers = layers, logits = layers[[length(layers)]])
  prior <- log_prior(z, q$beta)
  likelihood <- t(log_bernoulli_table(table$logits, q$x))
  joint <- plus_each(likelihood, prior)
  most <- do.call(pmax, as.data.frame(joint))
  log_px <- most + log(rowSums(exp(joint - most)))
  p <- exp(joint - log_px)
  if (quantity == "log_marginal") return(log_px)
  if (quantity == "posterior") return(p)
  if (quantity == "posterior_mean") return(p %*% z)
  if (quantity == "grad_log_marginal") {
    gradient <- grad_joint(q, table, p)
    return(of_model(gradient$beta, gradient$decoder))
  }
  up <- forward(q$encoder, q$x)
  phi <- up[[length(up)]]
  log_q <- log_bernoulli_table(phi, z)
  weights <- exp(log_q)
  terms <- list(
    prior = rowSums(times(weights, each_row(prior, nrow(q$x)))),
    reconstruction = rowSums(times(weights, likelihood)),
    entropy = -rowSums(times(weights, log_q))
  )
  if (quantity == "vlb_terms") return(terms)
  if (quantity == "vlb") return(terms$prior + terms$reconstruction + terms$entropy)
  if (quantity == "kl") return(rowSums(times(weights, log_q - joint + log_px)))
  gradient <- grad_joint(q, table, weights)
  signal <- times(weights, joint - log_q)
  recognition <- backward(q$encoder, up, delta(signal %*% z, signal %*% (1 - z), phi))
  c(of_model(gradient$beta, gradient$decoder, "model."), named(recognition, "posterior.encoder."))
}

fire <- function(uniforms, logits) (uniforms < sigmoid(logits)) * 1

dreams <- function(q) {
  z <- fire(q$uniforms_z, each_row(q$beta, nrow(q$uniforms_z)))
  list(x = fire(q$uniforms_x, logits_of(q$decoder, z)), z = z)
}

wake_step <- function(q) {
  z <- fire(q$wake_uniforms_z, logits_of(q$encoder, q$x))
  layers <- forward(q$decoder, z)
  gradient <- backward(q$decoder, layers, q$x - sigmoid(layers[[length(layers)]]))
  beta <- ifelse(is.finite(q$beta), colSums(z - each_row(sigmoid(q$beta), nrow(z))), 0)
  rate <- q$learning_rate / nrow(z)
  of_model(q$beta + rate * beta, moved(q$decoder, gradient, rate))
}

sleep_step <- function(q) {
  dream <- dreams(q)
  layers <- forward(q$encoder, dream$x)
  gradient <- backward(q$encoder, layers, dream$z - sigmoid(layers[[length(layers)]]))
  named(moved(q$encoder, gradient, q$learning_rate / nrow(dream$z)), "encoder.")
}

answer <- function(message) {
  q <- read_question(message)
  switch(message$quantity,
    log_prior = log_prior(q$z, q$beta),
    log_likelihood = log_bernoulli(q$x, logits_of(q$decoder, q$z)),
    log_joint = log_prior(q$z, q$beta) + log_bernoulli(q$x, logits_of(q$decoder, q$z)),
    sample = dreams(q),
    wake_step = wake_step(q),
    sleep_step = sleep_step(q),
    of_table(q, message$quantity)
  )
}

# The conversation --------------------------------------------------------------------------------------------------------

introduction <- list(
  implementation = list(name = "R candidate", version = "1", language = "R", precision = "float64"),
  quantities = c(
    pairs, "log_marginal", "posterior", "posterior_mean", "grad_log_marginal", "sample", recognising
  )
)

outcome <- function(message) {
  tryCatch(
    {
      found <- answer(message)
      list(result = if (is.list(found)) lapply(found, encode) else encode(found))
    },
    refusal = function(e) list(error = list(code = e$code, message = conditionMessage(e)))
  )
}

input <- file("stdin", "r")
while (length(line <- readLines(input, n = 1)) > 0) {
  message <- fromJSON(line)
  if (message$op == "stop") break
  reply <- if (message$op == "start") introduction else outcome(message)
  cat(toJSON(c(list(seq = message$seq), reply), auto_unbox = TRUE), "\n", sep = "")
  flush(stdout())
}
