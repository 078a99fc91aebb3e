"""Model types that are known by name and not read, with what stands in the way and the nearest that is read."""

from __future__ import annotations

_DRAFT = "is a drafter of another model, and kvplan reads none of this type: ask about the model it drafts for"
_STEP5 = "Step-5: sparse attention over sums of blocks beside the whole K and V; the nearest that are read are step3p5 and step3p7"

UNREAD = {
    "step3p5v": "Step-3.5V has no public implementation: none in transformers 5.24, vLLM 0.33 or SGLang 0.5.23; the nearest that are read are step3p5 and step3p7",
    "step5": _STEP5,
    "hrm_text": "HRM-Text: layers that run in turns over one state are not read; no near type is",
    "blt": "a byte latent transformer, whose number of patches the text decides; no near type is read",
    "xlstm": "xLSTM: its matrix memories are not read; the nearest that is read is mamba2",
    "gemma4_assistant": _DRAFT,
    "gemma4_unified_assistant": _DRAFT,
    "muse_glimmer_assistant": _DRAFT,
}

# The other types of transformers 5.24 that write text or sound, by what they are; none of them is read.
_MORE = {
    "a decoder of its own kind": """apertus1p5 apertus1p5_text beam bert_generation biogpt gpt_sw3 cohere_compass_text cpmant ctrl data2vec_text
        diffllama diffusion_gemma doge dory flint gpt_neox_japanese jetmoe kolibri1 lara_mini modernbert_decoder openai_gpt reformer
        roberta_prelayernorm trocr xglm""",
    "an encoder and a decoder of text": """bigbird_pegasus blenderbot blenderbot_small encoder_decoder fsmt led longt5 m2m_100 marian mvp
        nllb_moe pegasus_x plbart prophetnet switch_transformers t5gemma t5gemma2 udop""",
    "a model that hears": """canary cohere_asr kyutai_speech_to_text moonshine moonshine_streaming moss_transcribe_diarize nemo_speechlm
        omniasr pop2piano seamless_m4t seamless_m4t_v2 speech_encoder_decoder speech_to_text speecht5""",
    "a model that sees": """apertus1p5 blip blip_2 chameleon cohere_compass cosmos3_edge emu3 evolla florence2 git idefics instructblip
        instructblipvideo janus kosmos_2 kosmos_2.5 pi0 pix2struct pp_chart2table pp_formulanet shieldgemma2 vision_encoder_decoder""",
    "a model that speaks or plays": """bark csm dia fastspeech2_conformer fastspeech2_conformer_with_hifigan gradium_phonon_tts higgs_audio_v2 moshi musicgen musicgen_melody
        pocket_tts vibevoice vits""",
}
# Types of transformers 5.24 for other tasks: pictures, sound, embeddings, forecasts.
_NO_TEXT = frozenset(
    """
    aimv2 aimv2_text_model align align_text_model altclip altclip_text_model audio_spectrogram_transformer autoformer
    bit blip_2_qformer blip_text_model blt_global_transformer blt_local_decoder blt_patcher bridgetower
    bridgetower_text_model canary_decoder canine chinese_clip chinese_clip_text_model chmv2 clap clap_text_model
    clipseg clipseg_text_model clvp clvp_decoder colmodernvbert colpali colqwen2 conditional_detr convnextv2
    cosmos3_edge_text csm_depth_decoder_model cvt d_fine dab_detr dac decision_transformer deformable_detr deimv2
    depth_anything depth_pro detr dia_decoder diffusion_gemma_text dinat dinov2_with_registers dinov3_convnext
    donut_swin dpr dpt edgetam edgetam_mask_decoder edgetam_video edgetam_video_mask_decoder efficientloftr
    efficientnet embedding_gemma2 embedding_gemma2_text emu3_text_model encodec eomt eomt_dinov3 esmc esmfold2
    evollamodel fastspeech2_conformer_hifigan flava flava_image_codebook flava_image_model flava_multimodal_model
    flava_text_model focalnet glm_image glm_image_text glm_image_vqmodel glpn granite_speech5_ctc grounding_dino
    groupvit groupvit_text_model gte hgnet_v2 hiera idefics2_perceiver idefics_perciever ijepa imagegpt informer
    instructblip_qformer instructblipvideo_qformer jev jina_embeddings_v3 kosmos_2_5_text_model kosmos_2_text_model
    lasr_ctc layoutlmv2 layoutxlm levit lightglue lilt lw_detr lw_detr_vit lxmert markuplm mask2former maskformer
    maskformer_swin metaclip_2 metaclip_2_text_model mgp_str mimi mimi_decoder mlcd mm_grounding_dino mobilenet_v1
    mobilenet_v2 mobilevit mobilevitv2 modernvbert molmo2_adapter moshi_depth musicgen_decoder musicgen_melody_decoder
    nemotron3_5_asr nemotron3_5_transcribe_word_timestamp nemotron3_diarization nemotron_asr_streaming neomme neucodec
    nougat omdet_turbo omniasr_ctc oneformer openai_privacy_filter owlv2 owlv2_text_model owlvit owlvit_text_model
    parakeet_ctc parakeet_rnnt parakeet_tdt patchtsmixer patchtst pe_audio_video pe_video pix2struct_text_model pixio
    pixtral pocket_tts_audio_tokenizer_decoder poolformer pp_doclayout_v2 pp_doclayout_v3 pp_doclayout_v4
    pp_formulanet_text pp_lcnet pp_lcnet_v3 pp_lcnet_v4 pp_ocrv5_mobile_det pp_ocrv5_mobile_rec pp_ocrv5_server_det
    pp_ocrv5_server_rec pp_ocrv6_medium_det pp_ocrv6_small_det pp_ocrv6_small_rec pp_ocrv6_tiny_rec
    prompt_depth_anything pvt pvt_v2 qwen2_5_omni_bigvgan qwen2_5_omni_dit qwen2_5_omni_talker qwen2_5_omni_token2wav
    qwen3_omni_moe_talker_code_predictor qwen3_omni_moe_talker_text radio rag regnet resnet rf_detr rf_detr_dinov2
    rt_detr rt_detr_resnet rt_detr_v2 sam sam2 sam2_hiera_det_model sam2_mask_decoder sam2_video
    sam2_video_mask_decoder sam3 sam3_detr_decoder sam3_lite_text sam3_lite_text_detr_decoder
    sam3_lite_text_mask_decoder sam3_lite_text_text_model sam3_mask_decoder sam3_tracker sam3_tracker_mask_decoder
    sam3_tracker_video sam3_tracker_video_mask_decoder sam3_video sam3_vit_model sam_hq sam_hq_mask_decoder
    sam_mask_decoder sapiens2 sapiens2_head segformer seggpt sew sew_d siglip2_text_model siglip_text_model slanet
    slanext speecht5_hifigan superglue superpoint swiftformer swin2sr t5_gemma_module t5gemma2_decoder t5gemma2_text
    table_transformer tapas textnet time_series_transformer timesfm timesfm2_5 timesformer timm_backbone timm_wrapper
    tipsv2 tipsv2_dpt tipsv2_text_model tvp ultrabert ultravbert unispeech unispeech_sat univnet upernet uvdoc
    uvdoc_backbone vibevoice_acoustic_tokenizer_decoder vibevoice_diffusion videomae videomt videoprism
    videoprism_text_model vilt visual_bert vit_msn vitdet vitmatte vitpose vitpose_backbone vivit vjepa2
    wav2vec2_conformer wavtokenizer xclip xclip_text_model xcodec xcodec2 yolos zoedepth
    """.split()
)
_PARTS = (
    "_vision",
    "_vision_model",
    "_vision_encoder",
    "_audio",
    "_audio_encoder",
    "_audio_model",
    "_encoder",
    "_vqgan",
    "_tokenizer",
)


def words_of(model_type: str) -> str:
    """Returns why a known type is not read, behind its name; an empty text for any other name.

    >>> words_of("gemma4_assistant")[:32], words_of("Gemma4-Assistant") == words_of("gemma4_assistant")
    ('is a drafter of another model, a', True)
    >>> words_of("t5gemma2")[:67]
    'is not read. Transformers 5.24 has it (an encoder and a decoder of '
    """
    name = model_type.lower().replace("-", "_")
    found = UNREAD.get(name, "")
    if not found:
        kind = next((words for words, names in _MORE.items() if name in names.split()), "")
        found = f"transformers 5.24 has it ({kind}); kvplan has no reader of it" if kind else ""
    if not found and name in _NO_TEXT:
        return "writes no text: transformers has it for other tasks, and it keeps no KV cache"
    if not found and name.endswith(_PARTS):
        return "is a tower, a part of another model that keeps no KV cache: give the whole model's config.json"
    if not found or found == _DRAFT:
        return found
    return f"is not read. {found[0].upper()}{found[1:]}; --assume full-attention gives an upper bound"
