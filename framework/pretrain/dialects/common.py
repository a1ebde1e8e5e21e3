"""Names that mean the same in every architecture: wrappers, roles, bookkeeping buffers, classifier heads."""

#: Segments that a wrapper module puts into keys: DataParallel and DDP, torch.compile, FSDP1, activation
#: checkpointing, DeepSpeed under Lightning, fairscale.
#: Read in: torch 2.15 nn/parallel, _dynamo/eval_frame.py, distributed/fsdp; Lightning utilities/deepspeed.py.
WRAPPERS = frozenset(
    {
        "module",
        "_orig_mod",
        "_fsdp_wrapped_module",
        "_checkpoint_wrapped_module",
        "_forward_module",
        "_fpw_module",
    }
)

#: (the one to take, the one to leave) where a file holds the same network in two roles. The habit of the
#: authors' own evaluation code: see the producers' repositories named in each line.
PREFERRED = frozenset(
    {
        ("teacher", "student"),  # DINO, iBOT, DINOv2: eval_linear.py loads the teacher
        ("teacher_backbone", "student_backbone"),  # lightly
        ("target_encoder", "encoder"),  # I-JEPA, MSN evaluate the target encoder
        ("encoder_q", "encoder_k"),  # MoCo main_lincls.py
        ("base_encoder", "momentum_encoder"),  # MoCo v3 main_lincls.py
        ("online_encoder", "target_encoder"),  # BYOL (lucidrains)
        ("online_network", "target_network"),  # BYOL
        ("online_net", "target_net"),  # BYOL in mmselfsup
        ("online_backbone", "target_backbone"),  # BYOL (yaox12)
        ("backbone", "momentum_backbone"),  # solo-learn
        ("backbone", "backbone_momentum"),  # lightly
        ("backbone", "target_net"),  # BYOL in mmpretrain
        ("backbone", "momentum_encoder"),  # MoCo v3 in mmpretrain
        ("backbone", "encoder_k"),  # MoCo, DenseCL in mmpretrain
        ("teacher", "backbone"),  # DINO in mmpretrain and here
        ("state_dict_ema", "state_dict"),  # timm's loader default
        ("model_ema", "model"),  # DeiT, ConvNeXt, BEiT forks
        ("ema_model", "model"),
        ("ema_state", "model_state"),  # pycls
        ("ema", "model"),
        ("state_dict", "ema_state_dict"),  # mmengine's EMAHook swaps the two when it saves
    }
)

#: Words of a segment (`model_ema`, `emaModel`) that say that a network is an average of a training's weights.
AVERAGED = frozenset({"ema", "averaged", "average", "avg", "swa", "shadow", "polyak"})

#: (words of the one to take, words of the one to leave) in segments that differ in them.
PREFERRED_WORDS = (
    (frozenset({"teacher"}), frozenset({"student"})),
    (frozenset({"query", "q"}), frozenset({"key", "k"})),
    (frozenset({"online"}), frozenset({"target"})),  # BYOL and its kin evaluate the online network
)

#: Words of a network that follows another in training, where the other has no word for its role.
FOLLOWING = frozenset({"momentum", "key"})

#: Segments behind which tensors have a network's names and belong to its training.
TRAINING = frozenset(
    {"grad", "grads", "gradients", "optimizer", "exp_avg", "exp_avg_sq", "momentum_buffer", "fisher"}
)

#: Words of segments behind which there may be such tensors: `optimizer_state`, but also Flax's `opt.target`.
TRAINING_WORDS = frozenset({"optimizer", "optimizers", "optim", "opt", "grad", "grads", "adam"})

#: Segments behind which tensors have a network's names and are not its weights, or not the final ones.
NO_WEIGHTS = (
    TRAINING | {"init", "initial", "init_state_dict", "initial_state_dict"} | {"old", "prev", "previous"}
)

#: Where a network is usually kept: taken before an entry of another name that fits as well.
USUAL = frozenset(
    {"state_dict", "model", "model_state", "model_state_dict", "teacher", "target_encoder", "ema"}
)

#: Last segments of buffers that a module computes by itself: never taken from a file, never missed.
COMPUTED = frozenset(
    {
        "relative_position_index",
        "relative_coords_table",
        "attn_mask",
        "position_ids",
        "freqs_cos",
        "freqs_sin",
        "bias_mask",
    }
)

#: Last segments of what training keeps beside the weights: taken where the model wants it, never missed.
BOOKKEEPING = frozenset(
    {"num_batches_tracked", "queue", "queue_ptr", "queue2", "queue2_ptr", "steps"}
    | {"periods"}  # of rotary positions: files of DINOv3 have them rounded
)

#: Segments below which the first axis of every tensor counts the layers. big_vision's scanned encoder:
#: google-research/big_vision@0127fb6 models/vit.py, `scan=True`.
STACKED = ("encoderblock",)

#: Where classifiers keep their last linear layer.
HEADS = (
    "head.fc",
    "head.layers.head",
    "head.head",
    "heads.head",
    "head",
    "fc",
    "classifier",
    "cls_classifier",
    "classifier.1",
    "classifier.2",
    "classifier.3",
    "classifier.6",
    "last_linear",
    "linear",
    "visual_projection",  # of CLIP in transformers
)

#: Where the head of the distillation token is.
DISTILLED_HEADS = (
    "head_dist",
    "head.fc_dist",
    "head.layers.head_dist",
    "head.head_dist",
    "distillation_classifier",
)

#: Roles in which what is called a head is the projector of a self-supervised method: MoCo, MoCo v3, BYOL.
PROJECTING = frozenset(
    {"encoder_q", "encoder_k", "base_encoder", "momentum_encoder", "online_encoder", "online_network"}
)

#: Last segments (one or more) of parameters whose shape may be adapted, in architectures without a table.
KINDS = {
    "pos_embed": "pos_embed",
    "position_embeddings": "pos_embed",
    "pos_embedding": "pos_embed",
    "positional_embedding": "pos_embed",
    "absolute_pos_embed": "pos_embed",
    "relative_position_bias_table": "rel_pos_bias",
    "patch_embed.proj.weight": "patch_embed",
    "patch_embed.projection.weight": "patch_embed",
    "patch_embeddings.projection.weight": "patch_embed",
    "conv_proj.weight": "patch_embed",
}

#: Last segments of tokens that may have a slot in the positional embedding.
CLASS_TOKENS = frozenset(
    {"cls_token", "class_token", "class_embedding", "dist_token", "distillation_token", "cls"}
)
REGISTER_TOKENS = frozenset({"reg_token", "register_tokens", "storage_tokens"})
