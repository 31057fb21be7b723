//! A candidate in Rust, standard library alone: it reads the plain-text cases and writes answers as JSON lines.
//!
//!     refvlm vectors DIR
//!     rustc -O --edition 2021 -o candidate validation/candidates/candidate.rs
//!     ./candidate DIR [--wrong] > answers.jsonl
//!     refvlm check answers.jsonl
//!
//! Shallow models; deep ones are answered with "unsupported". --wrong reads codes as one writes binary numbers, the first
//! latent the most significant bit.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::{env, fs, io, process};

const QUANTITIES: [&str; 14] = [
    "log_prior", "log_likelihood", "log_joint", "log_marginal", "posterior", "posterior_mean", "vlb_terms", "vlb", "kl",
    "grad_log_marginal", "grad_vlb", "sample", "wake_step", "sleep_step",
];

// The case --------------------------------------------------------------------------------------------------------

struct Tensor {
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Tensor {
    fn new(shape: &[usize], data: Vec<f64>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), data.len());
        Tensor { shape: shape.to_vec(), data }
    }

    fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.data.chunks_exact(self.shape[1])
    }
}

#[derive(Default)]
struct Case {
    activations: HashMap<String, String>,
    tensors: HashMap<String, Tensor>,
    asked: Vec<String>,
}

/// What is wrong with a question: the protocol's code, and a word on where.
struct Refusal(&'static str, String);

type Answer<T> = Result<T, Refusal>;

impl Case {
    /// None if the text is no case.
    fn parse(text: &str) -> Option<Case> {
        let mut case = Case::default();
        let mut words = text.lines().skip(1).filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
        loop {
            match words.next()? {
                "activation" => {
                    case.activations.insert(words.next()?.to_string(), words.next()?.to_string());
                }
                "error" => {
                    case.ask(words.next()?);
                    words.next()?; // the code, which is for the answer to find
                }
                "tensor" => {
                    let name = words.next()?;
                    let axes: usize = words.next()?.parse().ok()?;
                    let shape = (0..axes).map(|_| words.next()?.parse().ok()).collect::<Option<Vec<usize>>>()?;
                    let result = name.strip_prefix("checks.");
                    let data = (0..shape.iter().product())
                        .map(|_| {
                            let bits = u64::from_str_radix(words.next()?, 16).ok()?;
                            words.next()?; // the same for people
                            if result.is_some() {
                                words.next()?; // the scale
                            }
                            Some(f64::from_bits(bits))
                        })
                        .collect::<Option<Vec<f64>>>()?;
                    if let Some(asked) = result {
                        case.ask(asked);
                    }
                    case.tensors.insert(name.to_string(), Tensor { shape, data });
                }
                "end" => return Some(case),
                _ => return None,
            }
        }
    }

    fn ask(&mut self, name: &str) {
        let quantity = name.split('.').next().unwrap_or(name).to_string();
        if QUANTITIES.contains(&quantity.as_str()) && !self.asked.contains(&quantity) {
            self.asked.push(quantity);
        }
    }

    fn get(&self, name: &str) -> Answer<&Tensor> {
        self.tensors.get(name).ok_or_else(|| Refusal("unsupported", format!("no {name}")))
    }

    /// The input of this name as a matrix of so many columns.
    fn input(&self, name: &str, columns: usize) -> Answer<&Tensor> {
        let tensor = self.get(&format!("inputs.{name}"))?;
        check(tensor.shape.len() == 2 && tensor.shape[1] == columns, "shape", name)?;
        Ok(tensor)
    }

    fn bits(&self, name: &str, columns: usize) -> Answer<&Tensor> {
        let tensor = self.input(name, columns)?;
        check(tensor.data.iter().all(|&bit| bit == 0.0 || bit == 1.0), "domain", name)?;
        Ok(tensor)
    }

    fn uniforms(&self, name: &str, columns: usize) -> Answer<&Tensor> {
        let tensor = self.input(name, columns)?;
        check(tensor.data.iter().all(|u| (0.0..1.0).contains(u)), "domain", name)?;
        Ok(tensor)
    }
}

fn check(fine: bool, code: &'static str, what: &str) -> Answer<()> {
    if fine { Ok(()) } else { Err(Refusal(code, what.to_string())) }
}

// Bernoulli units and networks ------------------------------------------------------------------------------------

fn sigmoid(a: f64) -> f64 {
    let small = (-a.abs()).exp();
    (if a >= 0.0 { 1.0 } else { small }) / (1.0 + small)
}

fn softplus(a: f64) -> f64 {
    a.max(0.0) + (-a.abs()).exp().ln_1p()
}

/// log p of one bit, log sigmoid(a) or log sigmoid(-a); a may be infinite.
fn log_bit(bit: f64, a: f64) -> f64 {
    let towards = if bit == 1.0 { a } else { -a };
    if towards == f64::INFINITY { 0.0 } else { -softplus(-towards) }
}

fn log_bernoulli(bits: &[f64], logits: &[f64]) -> f64 {
    bits.iter().zip(logits).map(|(&bit, &a)| log_bit(bit, a)).sum()
}

#[derive(Clone, Copy)]
enum Activation {
    Tanh,
    Relu,
    Sigmoid,
}

impl Activation {
    fn of(self, a: f64) -> f64 {
        match self {
            Activation::Tanh => a.tanh(),
            Activation::Relu => a.max(0.0),
            Activation::Sigmoid => sigmoid(a),
        }
    }

    /// The derivative where the activation is h.
    fn slope(self, h: f64) -> f64 {
        match self {
            Activation::Tanh => 1.0 - h * h,
            Activation::Relu => f64::from(u8::from(h > 0.0)),
            Activation::Sigmoid => h * (1.0 - h),
        }
    }
}

/// Weights (fan_in, fan_out) and biases of every layer.
struct Net {
    weights: Vec<Tensor>,
    biases: Vec<Tensor>,
    activation: Activation,
}

impl Net {
    fn read(case: &Case, whose: &str, prefix: &str) -> Answer<Net> {
        let activation = match case.activations.get(whose).map(String::as_str) {
            Some("tanh") => Activation::Tanh,
            Some("relu") => Activation::Relu,
            Some("sigmoid") => Activation::Sigmoid,
            other => return Err(Refusal("unsupported", format!("activation {other:?}"))),
        };
        let mut net = Net { weights: vec![], biases: vec![], activation };
        while let Some(w) = case.tensors.get(&format!("{prefix}weights.{}", net.weights.len())) {
            let name = format!("{prefix}biases.{}", net.weights.len());
            let b = case.tensors.get(&name).ok_or_else(|| Refusal("shape", name.clone()))?;
            check(w.shape.len() == 2 && b.shape == w.shape[1..], "shape", &name)?;
            check(net.weights.last().map_or(true, |below| below.shape[1] == w.shape[0]), "shape", &name)?;
            net.weights.push(Tensor::new(&w.shape, w.data.clone()));
            net.biases.push(Tensor::new(&b.shape, b.data.clone()));
        }
        check(!net.weights.is_empty(), "shape", prefix)?;
        Ok(net)
    }

    fn check_finite(&self, what: &str) -> Answer<()> {
        let parameters = || self.weights.iter().chain(&self.biases).flat_map(|t| &t.data);
        check(parameters().all(|value| value.is_finite()), "domain", what)
    }

    fn fan_in(&self) -> usize {
        self.weights[0].shape[0]
    }

    fn fan_out(&self) -> usize {
        self.biases[self.biases.len() - 1].data.len()
    }

    /// What enters each layer, and last the logits.
    fn forward(&self, input: &[f64]) -> Vec<Vec<f64>> {
        let mut layers = vec![input.to_vec()];
        for (d, (w, b)) in self.weights.iter().zip(&self.biases).enumerate() {
            let mut a = b.data.clone();
            for (h, row) in layers[d].iter().zip(w.rows()) {
                a.iter_mut().zip(row).for_each(|(sum, weight)| *sum += h * weight);
            }
            if d + 1 < self.weights.len() {
                a.iter_mut().for_each(|value| *value = self.activation.of(*value));
            }
            layers.push(a);
        }
        layers
    }

    fn logits(&self, input: &[f64]) -> Vec<f64> {
        self.forward(input).swap_remove(self.weights.len())
    }

    /// A net of zeros of the same shape, to add a gradient to.
    fn zeros(&self) -> Net {
        let empty = |tensors: &[Tensor]| tensors.iter().map(|t| Tensor::new(&t.shape, vec![0.0; t.data.len()])).collect();
        Net { weights: empty(&self.weights), biases: empty(&self.biases), activation: self.activation }
    }

    /// Adds to `gradient` what the slopes of the logits are in the parameters.
    fn backward(&self, layers: &[Vec<f64>], slopes: Vec<f64>, gradient: &mut Net) {
        let mut here = slopes;
        for d in (0..self.weights.len()).rev() {
            gradient.biases[d].data.iter_mut().zip(&here).for_each(|(sum, slope)| *sum += slope);
            let columns = here.len();
            for (h, row) in layers[d].iter().zip(gradient.weights[d].data.chunks_exact_mut(columns)) {
                row.iter_mut().zip(&here).for_each(|(sum, slope)| *sum += h * slope);
            }
            if d > 0 {
                let dot = |row: &[f64]| row.iter().zip(&here).map(|(w, slope)| w * slope).sum::<f64>();
                let below = self.weights[d].rows().zip(&layers[d]);
                here = below.map(|(row, &h)| dot(row) * self.activation.slope(h)).collect();
            }
        }
    }

    /// The parameters after a step of this rate along the gradient.
    fn moved(&self, gradient: &Net, rate: f64) -> Net {
        let step = |old: &[Tensor], by: &[Tensor]| {
            old.iter().zip(by).map(|(t, g)| Tensor::new(&t.shape, along(&t.data, &g.data, rate))).collect()
        };
        Net {
            weights: step(&self.weights, &gradient.weights),
            biases: step(&self.biases, &gradient.biases),
            activation: self.activation,
        }
    }
}

fn along(values: &[f64], gradient: &[f64], rate: f64) -> Vec<f64> {
    values.iter().zip(gradient).map(|(value, slope)| value + rate * slope).collect()
}

// The model -------------------------------------------------------------------------------------------------------

struct Code {
    z: Vec<f64>,
    log_prior: f64,
    logits: Vec<f64>,
}

struct Model {
    beta: Vec<f64>, // the prior's logits
    decoder: Net,
    wrong: bool,
}

/// The gradient in the prior's logits and the decoder.
struct Slopes {
    beta: Vec<f64>,
    decoder: Net,
}

impl Model {
    fn read(case: &Case, wrong: bool) -> Answer<Model> {
        let prior = case.get("model.prior.logits")?;
        let decoder = Net::read(case, "model", "model.decoder.")?;
        check(prior.shape == [decoder.fan_in()], "shape", "model.prior.logits")?;
        Ok(Model { beta: prior.data.clone(), decoder, wrong })
    }

    /// Every code z with its log p(z) and its logits of x; code c is z_k = (c >> k) & 1.
    fn table(&self) -> Vec<Code> {
        let latents = self.beta.len();
        let place = |k: usize| if self.wrong { latents - 1 - k } else { k };
        let codes = (0..1usize << latents).map(|c| (0..latents).map(|k| ((c >> place(k)) & 1) as f64).collect());
        let code = |z: Vec<f64>| Code { log_prior: log_bernoulli(&z, &self.beta), logits: self.decoder.logits(&z), z };
        codes.map(code).collect()
    }

    fn no_slopes(&self) -> Slopes {
        Slopes { beta: vec![0.0; self.beta.len()], decoder: self.decoder.zeros() }
    }

    /// Adds weight * d log p(x, z); an infinite logit has no slope.
    fn add_joint(&self, x: &[f64], z: &[f64], weight: f64, slopes: &mut Slopes) {
        let layers = self.decoder.forward(z);
        let errors = x.iter().zip(&layers[layers.len() - 1]).map(|(bit, &a)| weight * (bit - sigmoid(a))).collect();
        self.decoder.backward(&layers, errors, &mut slopes.decoder);
        for (sum, (&b, bit)) in slopes.beta.iter_mut().zip(self.beta.iter().zip(z)) {
            if b.is_finite() {
                *sum += weight * (bit - sigmoid(b));
            }
        }
    }
}

fn log_sum_exp(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + values.iter().map(|value| (value - most).exp()).sum::<f64>().ln()
}

/// 0 log 0 = 0.
fn times(weight: f64, value: f64) -> f64 {
    if weight > 0.0 { weight * value } else { 0.0 }
}

fn fire(uniforms: &[f64], logits: &[f64]) -> Vec<f64> {
    uniforms.iter().zip(logits).map(|(&u, &a)| f64::from(u8::from(u < sigmoid(a)))).collect()
}

// The answer ------------------------------------------------------------------------------------------------------

/// A tensor, or several by name.
enum Value {
    One(Tensor),
    Named(Vec<(String, Tensor)>),
}

fn vector(data: Vec<f64>) -> Tensor {
    Tensor::new(&[data.len()], data)
}

fn matrix(rows: Vec<Vec<f64>>, columns: usize) -> Tensor {
    Tensor::new(&[rows.len(), columns], rows.concat())
}

fn named(prefix: &str, net: Net) -> Vec<(String, Tensor)> {
    let name = |kind: &'static str| move |(d, tensor): (usize, Tensor)| (format!("{prefix}{kind}.{d}"), tensor);
    let weights = net.weights.into_iter().enumerate().map(name("weights"));
    weights.chain(net.biases.into_iter().enumerate().map(name("biases"))).collect()
}

fn of_model(prefix: &str, beta: Vec<f64>, decoder: Net) -> Vec<(String, Tensor)> {
    let mut parts = vec![(format!("{prefix}prior.logits"), vector(beta))];
    parts.extend(named(&format!("{prefix}decoder."), decoder));
    parts
}

/// Shapes first, then what the numbers may be; then the numbers.
fn answer(case: &Case, quantity: &str, wrong: bool) -> Answer<Value> {
    let model = Model::read(case, wrong)?;
    let (latents, observed) = (model.beta.len(), model.decoder.fan_out());
    let recognises = matches!(quantity, "vlb" | "vlb_terms" | "kl" | "grad_vlb" | "wake_step" | "sleep_step");
    let encoder = if recognises { Some(Net::read(case, "posterior", "posterior.encoder.")?) } else { None };
    if let Some(net) = &encoder {
        check(net.fan_in() == observed && net.fan_out() == latents, "shape", "posterior.encoder")?;
    }
    let needs: &[(&str, usize)] = match quantity {
        "log_prior" => &[("z", latents)],
        "log_likelihood" | "log_joint" => &[("x", observed), ("z", latents)],
        "sample" | "sleep_step" => &[("uniforms_z", latents), ("uniforms_x", observed)],
        "wake_step" => &[("x", observed), ("wake_uniforms_z", latents)],
        _ => &[("x", observed)],
    };
    let lengths = needs.iter().map(|&(name, columns)| Ok(case.input(name, columns)?.shape[0]));
    let lengths = lengths.collect::<Answer<Vec<usize>>>()?;
    check(lengths.iter().all(|&length| length == lengths[0]), "shape", "rows")?;
    model.decoder.check_finite("model.decoder")?;
    check(!model.beta.iter().any(|b| b.is_nan()), "domain", "model.prior.logits")?;
    if let Some(net) = &encoder {
        net.check_finite("posterior.encoder")?;
    }
    match (quantity, &encoder) {
        ("log_prior" | "log_likelihood" | "log_joint", _) => of_pairs(case, quantity, &model),
        ("sample", _) => {
            let (z, x) = dreams(case, &model)?;
            Ok(Value::Named(vec![("x".into(), matrix(x, observed)), ("z".into(), matrix(z, latents))]))
        }
        ("wake_step", Some(encoder)) => wake_step(case, &model, encoder),
        ("sleep_step", Some(encoder)) => sleep_step(case, &model, encoder),
        (_, Some(encoder)) => of_bound(quantity, &model, encoder, case.bits("x", observed)?),
        (_, None) => of_marginal(quantity, &model, case.bits("x", observed)?),
    }
}

fn of_pairs(case: &Case, quantity: &str, model: &Model) -> Answer<Value> {
    let z = case.bits("z", model.beta.len())?;
    let priors: Vec<f64> = z.rows().map(|z| log_bernoulli(z, &model.beta)).collect();
    if quantity == "log_prior" {
        return Ok(Value::One(vector(priors)));
    }
    let x = case.bits("x", model.decoder.fan_out())?;
    let likelihoods = x.rows().zip(z.rows()).map(|(x, z)| log_bernoulli(x, &model.decoder.logits(z)));
    let joint = quantity == "log_joint";
    let sums = likelihoods.zip(priors).map(|(value, prior)| if joint { value + prior } else { value });
    Ok(Value::One(vector(sums.collect())))
}

/// z from the prior, x given z.
fn dreams(case: &Case, model: &Model) -> Answer<(Vec<Vec<f64>>, Vec<Vec<f64>>)> {
    let for_z = case.uniforms("uniforms_z", model.beta.len())?;
    let for_x = case.uniforms("uniforms_x", model.decoder.fan_out())?;
    let z: Vec<Vec<f64>> = for_z.rows().map(|u| fire(u, &model.beta)).collect();
    let x = z.iter().zip(for_x.rows()).map(|(z, u)| fire(u, &model.decoder.logits(z))).collect();
    Ok((z, x))
}

fn wake_step(case: &Case, model: &Model, encoder: &Net) -> Answer<Value> {
    let x = case.bits("x", encoder.fan_in())?;
    let uniforms = case.uniforms("wake_uniforms_z", encoder.fan_out())?;
    let mut slopes = model.no_slopes();
    for (x, u) in x.rows().zip(uniforms.rows()) {
        model.add_joint(x, &fire(u, &encoder.logits(x)), 1.0, &mut slopes);
    }
    let rate = case.get("inputs.learning_rate")?.data[0] / x.shape[0] as f64;
    let beta = along(&model.beta, &slopes.beta, rate);
    Ok(Value::Named(of_model("", beta, model.decoder.moved(&slopes.decoder, rate))))
}

fn sleep_step(case: &Case, model: &Model, encoder: &Net) -> Answer<Value> {
    let (z, x) = dreams(case, model)?;
    let mut gradient = encoder.zeros();
    for (z, x) in z.iter().zip(&x) {
        let layers = encoder.forward(x);
        let errors = z.iter().zip(&layers[layers.len() - 1]).map(|(bit, &a)| bit - sigmoid(a)).collect();
        encoder.backward(&layers, errors, &mut gradient);
    }
    let rate = case.get("inputs.learning_rate")?.data[0] / x.len() as f64;
    Ok(Value::Named(named("encoder.", encoder.moved(&gradient, rate))))
}

fn of_marginal(quantity: &str, model: &Model, x: &Tensor) -> Answer<Value> {
    let (table, latents) = (model.table(), model.beta.len());
    let (mut log_px, mut posterior, mut means) = (vec![], vec![], vec![]);
    let mut slopes = model.no_slopes();
    for x in x.rows() {
        let joint: Vec<f64> = table.iter().map(|code| code.log_prior + log_bernoulli(x, &code.logits)).collect();
        let total = log_sum_exp(&joint);
        let p: Vec<f64> = joint.iter().map(|value| (value - total).exp()).collect();
        let mean = |k: usize| table.iter().zip(&p).map(|(code, p)| p * code.z[k]).sum();
        means.push((0..latents).map(mean).collect());
        if quantity == "grad_log_marginal" {
            table.iter().zip(&p).for_each(|(code, &p)| model.add_joint(x, &code.z, p, &mut slopes));
        }
        log_px.push(total);
        posterior.push(p);
    }
    Ok(match quantity {
        "grad_log_marginal" => Value::Named(of_model("", slopes.beta, slopes.decoder)),
        "posterior" => Value::One(matrix(posterior, table.len())),
        "posterior_mean" => Value::One(matrix(means, latents)),
        _ => Value::One(vector(log_px)),
    })
}

fn of_bound(quantity: &str, model: &Model, encoder: &Net, x: &Tensor) -> Answer<Value> {
    let table = model.table();
    let (mut priors, mut reconstructions, mut entropies, mut gaps) = (vec![], vec![], vec![], vec![]);
    let (mut slopes, mut gradient) = (model.no_slopes(), encoder.zeros());
    for x in x.rows() {
        let layers = encoder.forward(x);
        let phi = &layers[layers.len() - 1];
        let likelihoods: Vec<f64> = table.iter().map(|code| log_bernoulli(x, &code.logits)).collect();
        let joints: Vec<f64> = table.iter().zip(&likelihoods).map(|(code, value)| code.log_prior + value).collect();
        let log_px = log_sum_exp(&joints);
        let (mut prior, mut reconstruction, mut entropy, mut gap) = (0.0, 0.0, 0.0, 0.0);
        let mut errors = vec![0.0; phi.len()];
        for (code, (likelihood, joint)) in table.iter().zip(likelihoods.iter().zip(&joints)) {
            let log_q = log_bernoulli(&code.z, phi);
            let q = log_q.exp();
            prior += times(q, code.log_prior);
            reconstruction += times(q, *likelihood);
            entropy -= times(q, log_q);
            gap += times(q, log_q - joint + log_px);
            if quantity == "grad_vlb" {
                model.add_joint(x, &code.z, q, &mut slopes);
                let signal = times(q, joint - log_q);
                let from_mean = code.z.iter().zip(phi).map(|(bit, &a)| bit - sigmoid(a));
                errors.iter_mut().zip(from_mean).for_each(|(sum, distance)| *sum += signal * distance);
            }
        }
        encoder.backward(&layers, errors, &mut gradient);
        priors.push(prior);
        reconstructions.push(reconstruction);
        entropies.push(entropy);
        gaps.push(gap);
    }
    Ok(match quantity {
        "grad_vlb" => {
            let mut parts = of_model("model.", slopes.beta, slopes.decoder);
            parts.extend(named("posterior.encoder.", gradient));
            Value::Named(parts)
        }
        "vlb_terms" => {
            let terms = [("prior", priors), ("reconstruction", reconstructions), ("entropy", entropies)];
            Value::Named(terms.into_iter().map(|(name, rows)| (name.to_string(), vector(rows))).collect())
        }
        "kl" => Value::One(vector(gaps)),
        _ => {
            let sums = priors.iter().zip(&reconstructions).zip(&entropies).map(|((p, r), e)| p + r + e);
            Value::One(vector(sums.collect()))
        }
    })
}

// The conversation ------------------------------------------------------------------------------------------------

/// As JSON: the shape, and the bits of every number in hexadecimal.
fn tensor_json(tensor: &Tensor) -> String {
    let digits: Vec<String> = tensor.data.iter().map(|value| format!("\"{:016X}\"", value.to_bits())).collect();
    format!("{{\"shape\":{:?},\"f64\":[{}]}}", tensor.shape, digits.join(","))
}

fn outcome_json(outcome: Answer<Value>) -> String {
    match outcome {
        Ok(Value::One(tensor)) => format!("\"result\":{}", tensor_json(&tensor)),
        Ok(Value::Named(parts)) => {
            let parts: Vec<String> = parts.iter().map(|(name, t)| format!("\"{name}\":{}", tensor_json(t))).collect();
            format!("\"result\":{{{}}}", parts.join(","))
        }
        Err(Refusal(code, what)) => {
            format!("\"error\":{{\"code\":\"{code}\",\"message\":\"{}\"}}", what.replace(['"', '\\'], "'"))
        }
    }
}

fn answer_all(folder: &str, wrong: bool) -> Result<(), Box<dyn std::error::Error>> {
    let mut lines = String::from("{\"implementation\":{\"name\":\"Rust candidate\",\"version\":\"1\",");
    writeln!(lines, "\"language\":\"Rust\",\"precision\":\"float64\"}},\"quantities\":{QUANTITIES:?}}}")?;
    for id in fs::read_to_string(format!("{folder}/text/INDEX"))?.split_whitespace() {
        let text = fs::read_to_string(format!("{folder}/text/{id}.txt"))?;
        let case = Case::parse(&text).ok_or_else(|| format!("{id}.txt: this is no case"))?;
        for quantity in &case.asked {
            let outcome = outcome_json(answer(&case, quantity, wrong));
            writeln!(lines, "{{\"case\":\"{id}\",\"quantity\":\"{quantity}\",{outcome}}}")?;
        }
    }
    Ok(io::stdout().write_all(lines.as_bytes())?)
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [folder] => answer_all(folder, false),
        [folder, "--wrong"] => answer_all(folder, true),
        _ => Err("usage: candidate DIR [--wrong]".into()),
    };
    if let Err(error) = outcome {
        eprintln!("candidate: {error}");
        process::exit(2);
    }
}
